// SPDX-License-Identifier: Apache-2.0
//
// The process_* metrics that every Prometheus client library has (cpu seconds, memory, descriptors, start time), read
// from the kernel when asked. What cannot be read is left out. Any thread.
#ifndef RELAY_BASE_PROCESS_METRICS_H
#define RELAY_BASE_PROCESS_METRICS_H

#include <stdio.h>

// Prometheus text format. Does not check the stream: the caller looks at ferror().
void process_metrics_print(FILE *out);

#endif
