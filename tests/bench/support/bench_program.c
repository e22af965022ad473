// SPDX-License-Identifier: Apache-2.0
//
// See bench_program.h.
#include "support/bench_program.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

void bench_fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s: ", program_invocation_short_name);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

void bench_must(bool ok, const char *what, const struct relay_error *error)
{
    if (!ok) {
        bench_fail("%s: %s", what, error->text);
    }
}

void bench_options(int argc, char **argv, const char *usage, const char *const *names)
{
    for (int i = 1; i < argc; i += 2) {
        if (strcmp(argv[i], "--help") == 0) {
            printf("%s\n", usage);
            exit(0);
        }
        const char *const *name = names;
        while (*name != NULL && strcmp(*name, argv[i]) != 0) {
            name++;
        }
        if (*name == NULL || i + 1 == argc) {
            fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, argv[i],
                *name == NULL ? "no such option" : "needs a value");
            exit(2);
        }
    }
}

static const char *given(int argc, char **argv, const char *name)
{
    const char *value = NULL;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], name) == 0) {
            value = argv[i + 1];
        }
    }
    return value;
}

const char *bench_text(int argc, char **argv, const char *name, const char *otherwise)
{
    const char *value = given(argc, argv, name);
    if (value == NULL && otherwise == NULL) {
        bench_fail("%s must be given", name);
    }
    return value == NULL ? otherwise : value;
}

int64_t bench_number(int argc, char **argv, const char *name, int64_t otherwise)
{
    const char *text = given(argc, argv, name);
    if (text == NULL) {
        return otherwise;
    }
    char *end;
    errno = 0;
    int64_t value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < 0) {
        bench_fail("%s: \"%s\" is not a whole number", name, text);
    }
    return value;
}

double bench_fraction(int argc, char **argv, const char *name, double otherwise)
{
    const char *text = given(argc, argv, name);
    if (text == NULL) {
        return otherwise;
    }
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= 0)) {
        bench_fail("%s: \"%s\" is not a number", name, text);
    }
    return value;
}

static double seconds(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

double bench_now(void)
{
    return seconds(CLOCK_MONOTONIC);
}

double bench_cpu(void)
{
    return seconds(CLOCK_PROCESS_CPUTIME_ID);
}

long bench_peak_kb(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
}

void bench_sleep_until(double at)
{
    struct timespec until = {.tv_sec = (time_t)at, .tv_nsec = (long)((at - (double)(time_t)at) * 1e9)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) {
    }
}

const struct relay_context *bench_context(int argc, char **argv)
{
    static struct relay_context context;
    if (context.config != NULL) {
        return &context;
    }
    struct relay_error error;
    char *mistakes = NULL;
    struct config *config = config_load(bench_text(argc, argv, "--config", NULL), &mistakes, &error);
    if (config == NULL) {
        bench_fail("%s\n%s", error.text, mistakes == NULL ? "" : mistakes);
    }
    context = (struct relay_context){.config = config, .clock = clock_system(), .instance = "bench"};
    return &context;
}

PGconn *bench_postgres(int argc, char **argv)
{
    const char *dsn = given(argc, argv, "--dsn");
    PGconn *connection = PQconnectdb(dsn != NULL ? dsn : bench_context(argc, argv)->config->postgres.dsn);
    if (PQstatus(connection) != CONNECTION_OK) {
        bench_fail("%s", PQerrorMessage(connection));
    }
    return connection;
}

void bench_execute(PGconn *connection, const char *statement)
{
    PGresult *result = PQexec(connection, statement);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
        bench_fail("%s: %s", statement, PQerrorMessage(connection));
    }
    PQclear(result);
}

void bench_samples_add(struct bench_samples *samples, double value)
{
    if (samples->count == samples->room) {
        samples->room = samples->room == 0 ? 4096 : samples->room * 2;
        samples->at = realloc(samples->at, samples->room * sizeof(double));
        if (samples->at == NULL) {
            bench_fail("out of memory");
        }
    }
    samples->at[samples->count++] = value;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_percentile(struct bench_samples *samples, double fraction)
{
    if (samples->count == 0) {
        return 0;
    }
    qsort(samples->at, samples->count, sizeof(double), ascending);
    size_t place = (size_t)(fraction * (double)samples->count);
    return samples->at[place < samples->count ? place : samples->count - 1];
}

void bench_print_percentiles(struct bench_samples *samples)
{
    printf("\"p50\": %.3f, \"p95\": %.3f, \"p99\": %.3f, \"max\": %.3f, \"count\": %zu",
        bench_percentile(samples, 0.5) * 1e3, bench_percentile(samples, 0.95) * 1e3,
        bench_percentile(samples, 0.99) * 1e3, bench_percentile(samples, 1) * 1e3, samples->count);
}
