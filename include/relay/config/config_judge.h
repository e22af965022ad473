// SPDX-License-Identifier: Apache-2.0
//
// What no single key shows: something is missing, or two things contradict. A part of config_build.h: reports to the
// source's report.
#ifndef RELAY_CONFIG_CONFIG_JUDGE_H
#define RELAY_CONFIG_CONFIG_JUDGE_H

#include "relay/config/config_build.h"

// config is complete: where a value was mistaken it holds the default.
void config_judge(const struct config_source *source, const struct config *config);

#endif
