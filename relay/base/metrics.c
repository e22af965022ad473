// SPDX-License-Identifier: Apache-2.0
//
// Each metric of the table is a family: a hash of series under one lock, which only look-ups, retiring and rendering
// take. The values are atomics with relaxed order: adding and observing never wait, and /metrics may see a histogram's
// sum one observation ahead of its buckets, but never buckets that contradict each other, since the count is made from
// them. A family without labels has only its fallback series, shown from the start; with labels the fallback is the
// "other" series, shown once somebody uses it: when the family is full, or memory for a new series is out. A family of
// gauges that is full takes a series that is not shown any more for the new one.
#include "relay/base/metrics.h"

#include "relay/base/fnv.h"
#include "relay/base/clock.h"
#include "relay/base/process_metrics.h"
#include "relay/base/utf8.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX      "outbox_relay_"
#define VALUE_MAX   300 // bytes of a label's value; a Kafka topic has at most 249
#define CHAINS      256
#define BUCKETS_MAX 16

enum kind { COUNTER, GAUGE, HISTOGRAM, HISTOGRAM_ROWS };

static const double second_bounds[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60};
static const double row_bounds[] = {1, 10, 100, 500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000,
    1000000};

static const struct {
    enum kind kind;
    const char *name;
    const char *labels;
    const char *help;
} table[METRIC_COUNT] = {
#define X(id, kind, name, labels, help) {kind, name, labels, help},
    RELAY_METRICS(X)
#undef X
};

struct metric_series {
    struct metric_series *next; // in its chain; under the lock
    enum kind kind;             // this and values: set before the series is seen by others
    char values[METRICS_LABELS_MAX][VALUE_MAX];
    bool shared; // the fallback of a family with labels
    atomic_bool shown;
    _Atomic uint64_t count;                    // of a counter
    _Atomic uint64_t bits;                     // a gauge's value or a histogram's sum, the bits of a double
    _Atomic uint64_t buckets[BUCKETS_MAX + 1]; // the last one: above all bounds
};

struct family {
    struct metric_series *chains[CHAINS];
    size_t series;
    struct metric_series fallback;
};

struct metrics {
    pthread_mutex_t lock;
    struct family families[METRIC_COUNT];
};

static size_t bounds_of(enum kind kind, const double **bounds)
{
    *bounds = kind == HISTOGRAM_ROWS ? row_bounds : second_bounds;
    return kind == HISTOGRAM_ROWS ? sizeof(row_bounds) / sizeof(row_bounds[0])
                                  : sizeof(second_bounds) / sizeof(second_bounds[0]);
}

static size_t label_count(enum metric_id id)
{
    const char *labels = table[id].labels;
    if (*labels == '\0') {
        return 0;
    }
    size_t count = 1;
    for (; *labels != '\0'; labels++) {
        count += *labels == ',';
    }
    return count;
}

static double from_bits(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static uint64_t to_bits(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

struct metrics *metrics_new(struct relay_error *error)
{
    _Static_assert(sizeof(second_bounds) / sizeof(double) <= BUCKETS_MAX, "room for every bucket");
    _Static_assert(sizeof(row_bounds) / sizeof(double) <= BUCKETS_MAX, "room for every bucket");
    struct metrics *metrics = calloc(1, sizeof(*metrics));
    if (metrics == NULL) {
        error_no_memory(error, "metrics");
        return NULL;
    }
    pthread_mutex_init(&metrics->lock, NULL);
    for (int id = 0; id < METRIC_COUNT; id++) {
        struct metric_series *fallback = &metrics->families[id].fallback;
        fallback->kind = table[id].kind;
        size_t labels = label_count(id);
        for (size_t i = 0; i < labels; i++) {
            snprintf(fallback->values[i], VALUE_MAX, "other");
        }
        fallback->shared = labels > 0;
        atomic_init(&fallback->shown, labels == 0);
    }
    return metrics;
}

void metrics_free(struct metrics *metrics)
{
    if (metrics == NULL) {
        return;
    }
    for (int id = 0; id < METRIC_COUNT; id++) {
        for (size_t chain = 0; chain < CHAINS; chain++) {
            struct metric_series *series = metrics->families[id].chains[chain];
            while (series != NULL) {
                struct metric_series *next = series->next;
                free(series);
                series = next;
            }
        }
    }
    pthread_mutex_destroy(&metrics->lock);
    free(metrics);
}

static size_t chain_of(char values[][VALUE_MAX], size_t labels)
{
    uint32_t hash = FNV_START;
    for (size_t i = 0; i < labels; i++) {
        hash = fnv_bytes(hash, values[i], strlen(values[i]) + 1); // a NUL between the values
    }
    return (hash ^ (hash >> 16)) % CHAINS;
}

// Under the lock. Takes a series that is not shown out of its chain. NULL: there is none.
static struct metric_series *take_hidden(struct family *family)
{
    for (size_t chain = 0; chain < CHAINS; chain++) {
        struct metric_series **at = &family->chains[chain];
        while (*at != NULL && atomic_load_explicit(&(*at)->shown, memory_order_relaxed)) {
            at = &(*at)->next;
        }
        struct metric_series *hidden = *at;
        if (hidden != NULL) {
            *at = hidden->next;
            return hidden;
        }
    }
    return NULL;
}

// Under the lock. Room for one more series, in no chain and with the value 0. NULL: there is none.
static struct metric_series *make_room(struct family *family, enum metric_id id)
{
    if (family->series == METRICS_SERIES_MAX) {
        return table[id].kind == GAUGE ? take_hidden(family) : NULL;
    }
    struct metric_series *series = calloc(1, sizeof(*series));
    family->series += series != NULL;
    return series;
}

// Under the lock.
static struct metric_series *find_or_make(struct family *family, enum metric_id id, char values[][VALUE_MAX],
    size_t labels)
{
    struct metric_series **chain = &family->chains[chain_of(values, labels)];
    for (struct metric_series *series = *chain; series != NULL; series = series->next) {
        size_t same = 0;
        while (same < labels && strcmp(series->values[same], values[same]) == 0) {
            same++;
        }
        if (same == labels) {
            return series;
        }
    }
    struct metric_series *series = make_room(family, id);
    if (series == NULL) {
        return &family->fallback;
    }
    series->kind = table[id].kind;
    memcpy(series->values, values, labels * VALUE_MAX);
    series->next = *chain;
    *chain = series;
    return series;
}

struct metric_series *metrics_series(struct metrics *metrics, enum metric_id id, const char *const *values)
{
    struct family *family = &metrics->families[id];
    size_t labels = label_count(id);
    if (labels == 0) {
        return &family->fallback;
    }
    char clean[METRICS_LABELS_MAX][VALUE_MAX];
    for (size_t i = 0; i < labels; i++) {
        utf8_clean(clean[i], VALUE_MAX, values[i]);
    }
    pthread_mutex_lock(&metrics->lock);
    struct metric_series *series = find_or_make(family, id, clean, labels);
    atomic_store_explicit(&series->shown, true, memory_order_relaxed);
    pthread_mutex_unlock(&metrics->lock);
    return series;
}

void metrics_retire(struct metrics *metrics, struct metric_series *series)
{
    (void)metrics;
    if (series->kind == GAUGE) {
        atomic_store_explicit(&series->bits, 0, memory_order_relaxed);
    }
    atomic_store_explicit(&series->shown, false, memory_order_relaxed);
}

bool metric_is_shared(const struct metric_series *series)
{
    return series->shared;
}

void metric_add(struct metric_series *series, uint64_t by)
{
    atomic_fetch_add_explicit(&series->count, by, memory_order_relaxed);
}

void metric_set(struct metric_series *series, double value)
{
    atomic_store_explicit(&series->bits, to_bits(value), memory_order_relaxed);
}

void metric_observe(struct metric_series *series, double value)
{
    metric_observe_many(series, value, 1);
}

void metric_observe_many(struct metric_series *series, double value, uint64_t times)
{
    if (isnan(value) || times == 0) {
        return;
    }
    if (value < 0) {
        value = 0; // created_at ahead of our clock
    }
    const double *bounds;
    size_t count = bounds_of(series->kind, &bounds);
    size_t bucket = 0;
    while (bucket < count && value > bounds[bucket]) {
        bucket++;
    }
    atomic_fetch_add_explicit(&series->buckets[bucket], times, memory_order_relaxed);
    uint64_t before = atomic_load_explicit(&series->bits, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&series->bits, &before,
        to_bits(from_bits(before) + value * (double)times), memory_order_relaxed, memory_order_relaxed)) {
    }
}

static uint64_t observations(const struct metric_series *series)
{
    uint64_t sum = 0;
    for (size_t i = 0; i <= BUCKETS_MAX; i++) {
        sum += atomic_load_explicit(&series->buckets[i], memory_order_relaxed);
    }
    return sum;
}

double metric_value(const struct metric_series *series)
{
    switch (series->kind) {
    case COUNTER: return (double)atomic_load_explicit(&series->count, memory_order_relaxed);
    case GAUGE: return from_bits(atomic_load_explicit(&series->bits, memory_order_relaxed));
    case HISTOGRAM:
    case HISTOGRAM_ROWS: break;
    }
    return (double)observations(series);
}

static void visit(const struct metric_series *series, metrics_visitor *visitor, void *context)
{
    if (atomic_load_explicit(&series->shown, memory_order_relaxed)) {
        const char *values[METRICS_LABELS_MAX];
        for (size_t i = 0; i < METRICS_LABELS_MAX; i++) {
            values[i] = series->values[i];
        }
        visitor(context, values, metric_value(series));
    }
}

void metrics_each(struct metrics *metrics, enum metric_id id, metrics_visitor *visitor, void *context)
{
    const struct family *family = &metrics->families[id];
    pthread_mutex_lock(&metrics->lock);
    visit(&family->fallback, visitor, context);
    for (size_t chain = 0; chain < CHAINS; chain++) {
        for (const struct metric_series *series = family->chains[chain]; series != NULL; series = series->next) {
            visit(series, visitor, context);
        }
    }
    pthread_mutex_unlock(&metrics->lock);
}

// From here on: rendering. The stream is an open_memstream, whose failures are seen at the end.

static void print_number(FILE *out, double value)
{
    if (isnan(value)) {
        fputs("NaN", out);
    } else if (isinf(value)) {
        fputs(value > 0 ? "+Inf" : "-Inf", out);
    } else if (value == floor(value) && fabs(value) < 1e15) {
        fprintf(out, "%.0f", value);
    } else {
        fprintf(out, "%.15g", value);
    }
}

static void print_escaped(FILE *out, const char *value)
{
    for (; *value != '\0'; value++) {
        if (*value == '\\' || *value == '"') {
            fputc('\\', out);
        }
        fputc(*value, out); // a newline cannot be: utf8_clean took it out
    }
}

// {a="x",b="y"} or nothing; le: one more label, NULL for none.
static void print_labels(FILE *out, enum metric_id id, const struct metric_series *series, const char *le)
{
    size_t labels = label_count(id);
    if (labels == 0 && le == NULL) {
        return;
    }
    const char *name = table[id].labels;
    fputc('{', out);
    for (size_t i = 0; i < labels; i++) {
        size_t length = strcspn(name, ",");
        fprintf(out, "%s%.*s=\"", i == 0 ? "" : ",", (int)length, name);
        print_escaped(out, series->values[i]);
        fputc('"', out);
        name += length + (name[length] == ',');
    }
    if (le != NULL) {
        fprintf(out, "%sle=\"%s\"", labels == 0 ? "" : ",", le);
    }
    fputc('}', out);
}

static void print_histogram(FILE *out, enum metric_id id, const struct metric_series *series)
{
    const double *bounds;
    size_t count = bounds_of(series->kind, &bounds);
    uint64_t sum = 0;
    for (size_t i = 0; i <= count; i++) {
        char le[32];
        if (i < count) {
            snprintf(le, sizeof(le), "%.15g", bounds[i]);
        } else {
            snprintf(le, sizeof(le), "+Inf");
        }
        sum += atomic_load_explicit(&series->buckets[i], memory_order_relaxed);
        fprintf(out, PREFIX "%s_bucket", table[id].name);
        print_labels(out, id, series, le);
        fprintf(out, " %llu\n", (unsigned long long)sum);
    }
    fprintf(out, PREFIX "%s_sum", table[id].name);
    print_labels(out, id, series, NULL);
    fputc(' ', out);
    print_number(out, from_bits(atomic_load_explicit(&series->bits, memory_order_relaxed)));
    fprintf(out, "\n" PREFIX "%s_count", table[id].name);
    print_labels(out, id, series, NULL);
    fprintf(out, " %llu\n", (unsigned long long)sum);
}

static void print_series(FILE *out, enum metric_id id, const struct metric_series *series)
{
    if (!atomic_load_explicit(&series->shown, memory_order_relaxed)) {
        return;
    }
    if (series->kind == HISTOGRAM || series->kind == HISTOGRAM_ROWS) {
        print_histogram(out, id, series);
        return;
    }
    fprintf(out, PREFIX "%s", table[id].name);
    print_labels(out, id, series, NULL);
    fputc(' ', out);
    print_number(out, metric_value(series));
    fputc('\n', out);
}

// Under the lock.
static void print_family(FILE *out, const struct family *family, enum metric_id id)
{
    static const char *const types[] =
        {[COUNTER] = "counter", [GAUGE] = "gauge", [HISTOGRAM] = "histogram", [HISTOGRAM_ROWS] = "histogram"};
    fprintf(out, "# HELP " PREFIX "%s %s\n# TYPE " PREFIX "%s %s\n", table[id].name, table[id].help, table[id].name,
        types[table[id].kind]);
    print_series(out, id, &family->fallback);
    for (size_t chain = 0; chain < CHAINS; chain++) {
        for (const struct metric_series *series = family->chains[chain]; series != NULL; series = series->next) {
            print_series(out, id, series);
        }
    }
}

char *metrics_render(struct metrics *metrics, size_t *length)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL) {
        return NULL;
    }
    pthread_mutex_lock(&metrics->lock);
    for (int id = 0; id < METRIC_COUNT; id++) {
        print_family(out, &metrics->families[id], id);
    }
    pthread_mutex_unlock(&metrics->lock);
    process_metrics_print(out);
    bool bad = ferror(out) != 0;
    if (fclose(out) != 0 || bad) {
        free(text);
        return NULL;
    }
    *length = size;
    return text;
}
