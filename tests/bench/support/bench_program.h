// SPDX-License-Identifier: Apache-2.0
//
// What the benchmark programs share: options of the form `--name value`, the relay's own configuration file (so that a
// reference uses the same servers and the same librdkafka settings as the relay), clocks, CPU time, percentiles. A
// program prints one JSON object on its standard output; whatever goes wrong ends it with a sentence on standard error
// and exit code 1.
#ifndef BENCH_PROGRAM_H
#define BENCH_PROGRAM_H

#include "relay/base/error.h"
#include "relay/config/config.h"
#include "relay/config/context.h"

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void bench_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
void bench_must(bool ok, const char *what, const struct relay_error *error);

// Call first: `usage` for --help, then the names of all options, NULL at the end. Anything else on the line is refused.
void bench_options(int argc, char **argv, const char *usage, const char *const *names);
int64_t bench_number(int argc, char **argv, const char *name, int64_t otherwise);
double bench_fraction(int argc, char **argv, const char *name, double otherwise);
const char *bench_text(int argc, char **argv, const char *name, const char *otherwise); // otherwise NULL: must be given

double bench_now(void);   // monotonic seconds
double bench_cpu(void);   // seconds of CPU this process has used
long bench_peak_kb(void); // its peak resident memory
void bench_sleep_until(double at);

// The config of --config and a context over it, for the library's functions. Never freed: a program is short.
const struct relay_context *bench_context(int argc, char **argv);
// A session of the config's own dsn, or of --dsn where given.
PGconn *bench_postgres(int argc, char **argv);
void bench_execute(PGconn *connection, const char *statement);

struct bench_samples {
    double *at; // seconds
    size_t count, room;
};
void bench_samples_add(struct bench_samples *samples, double value);
// Sorts. fraction 0.5 is the median; 0 where there are none.
double bench_percentile(struct bench_samples *samples, double fraction);
// "\"p50\": ..., \"p95\": ..., \"p99\": ..., \"max\": ..., \"count\": ..." in milliseconds, to standard output.
void bench_print_percentiles(struct bench_samples *samples);

#endif
