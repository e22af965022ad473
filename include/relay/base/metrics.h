// SPDX-License-Identifier: Apache-2.0
//
// All metrics of the project stand in one table (RELAY_METRICS): kind, name without the prefix `outbox_relay_`, labels,
// unit and sentence; docs and /metrics are made from it and a test compares them. A series is one metric with values of
// its labels: look it up once with metrics_series(), keep the pointer (it lives as long as the metrics), then add, set
// or observe without a lock from any thread. A metric keeps at most METRICS_SERIES_MAX series; further ones share one
// series whose label values are "other", so that hostile topic names cannot fill the memory. Counters add up there; who
// sets a gauge that may be one of so many asks metric_is_shared() and sets the sum.
#ifndef RELAY_BASE_METRICS_H
#define RELAY_BASE_METRICS_H

#include "relay/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define METRICS_SERIES_MAX 2000
#define METRICS_LABELS_MAX 3

// X(ID, kind, name, labels (comma separated), help)
#define RELAY_METRICS(X)                                                                                               \
    X(EVENTS_PUBLISHED, COUNTER, "events_published_total", "topic",                                                    \
        "Events acknowledged by Kafka and taken out of their outbox.")                                                 \
    X(EVENTS_INSERTED, COUNTER, "events_inserted_total", "table", "Rows that ClickHouse has acknowledged.")            \
    X(DEAD_LETTERS, COUNTER, "dead_letters_total", "stage,reason", "Events set aside in a dead-letter table.")         \
    X(DEAD_LETTER_COPIES, COUNTER, "dead_letter_copies_total", "result",                                               \
        "Copies of dead letters for [insert] dead_letter_topic: acknowledged, or left out as too_large.")              \
    X(PUBLISH_BATCH_SECONDS, HISTOGRAM, "publish_batch_seconds", "",                                                   \
        "From reading the first rows of a transaction to its PostgreSQL commit.")                                      \
    X(PUBLISH_LATENCY_SECONDS, HISTOGRAM, "publish_latency_seconds", "",                                               \
        "From created_at of an event to the broker's acknowledgement.")                                                \
    X(INSERT_SECONDS, HISTOGRAM, "insert_seconds", "table", "Duration of one INSERT into ClickHouse.")                 \
    X(INSERT_BATCH_ROWS, HISTOGRAM_ROWS, "insert_batch_rows", "table", "Rows in one INSERT into ClickHouse.")          \
    X(END_TO_END_SECONDS, HISTOGRAM, "end_to_end_seconds", "",                                                         \
        "From created_at of an event to its ClickHouse acknowledgement.")                                              \
    X(OUTBOX_UNPUBLISHED_ROWS, GAUGE, "outbox_unpublished_rows", "outbox",                                             \
        "Rows waiting in the outbox, without those of parked topics and held aggregates; exact up to the thresholds, " \
        "an estimate past them.")                                                                                      \
    X(OUTBOX_OLDEST_AGE_SECONDS, GAUGE, "outbox_oldest_age_seconds", "outbox", "Age of the oldest row that waits.")    \
    X(OUTBOX_HEALTH, GAUGE, "outbox_health", "outbox", "0 OK, 1 WARNING, 2 CRITICAL, as check_outbox_health() says.")  \
    X(OUTBOX_OWNED, GAUGE, "outbox_owned", "outbox", "1 while this process owns the outbox, else 0.")                  \
    X(CONSUMER_LAG, GAUGE, "consumer_lag", "topic,partition",                                                          \
        "Messages behind the end of an assigned partition, as its broker told it last.")                               \
    X(UNOWNED_OUTBOXES, GAUGE, "unowned_outboxes", "",                                                                 \
        "Outboxes of the database in which events wait, that this process does not name and no relay owns.")           \
    X(POSTGRES_PRIMARIES, GAUGE, "postgres_primaries", "",                                                             \
        "Servers of the database that take writes: 2 if a former primary was not stopped, 0 if not known.")            \
    X(BREAKER_STATE, GAUGE, "breaker_state", "dependency", "0 closed, 1 half open, 2 open.")                           \
    X(BREAKER_TRIPS, COUNTER, "breaker_trips_total", "dependency", "Times the breaker opened.")                        \
    X(RETRIES, COUNTER, "retries_total", "dependency,class", "Attempts that had to be repeated.")                      \
    X(ALERTS_SENT, COUNTER, "alerts_sent_total", "target,result", "Alerts handed to a receiver.")                      \
    X(REPLAYS, COUNTER, "replays_total", "stage", "Batches found already done after a crash or takeover.")             \
    X(HELD_AGGREGATES, GAUGE, "held_aggregates", "outbox", "Aggregates that wait behind a poison row.")                \
    X(PARKED_TOPICS, GAUGE, "parked_topics", "outbox",                                                                 \
        "Topics that are missing or forbidden, or refuse timestamps, for which rows wait.")                            \
    X(OUTBOX_HOLES, GAUGE, "outbox_holes", "outbox",                                                                   \
        "Ranges of sequence numbers that were passed and may still be committed.")                                     \
    X(OUTBOX_OLDEST_HOLE_SECONDS, GAUGE, "outbox_oldest_hole_seconds", "outbox",                                       \
        "For how long the oldest of these ranges has been open; 0 where there is none.")                               \
    X(PAUSED_TABLES, GAUGE, "insert_paused", "table",                                                                  \
        "1 while inserts into the table are paused, or have failed for two minutes.")                                  \
    X(STOPPED_PARTITIONS, GAUGE, "insert_stopped_partitions", "",                                                      \
        "Partitions of this process that give nothing, may not be read, or have lost their offset.")                   \
    X(MESSAGES_LOST, COUNTER, "messages_lost_total", "topic",                                                          \
        "Messages that Kafka expired before they were inserted; counted when the insert stage goes on without them.")  \
    X(VIEWS_BEHIND, COUNTER, "views_behind_total", "table",                                                            \
        "INSERTs that views of the table may lack for good, since they cannot be repeated; once for each partition.")  \
    X(ROWS_NOT_THERE, COUNTER, "rows_not_there_total", "outbox",                                                       \
        "Events that Kafka has and whose rows recovery did not find: the database has lost them.")                     \
    X(TOMBSTONES_SKIPPED, COUNTER, "tombstones_skipped_total", "table",                                                \
        "Messages without value that made no row, as the route says (tombstones = skip).")                             \
    X(INSERT_BUFFER_BYTES, GAUGE, "insert_buffer_bytes", "", "Bytes of events held in memory by the insert stage.")    \
    X(BUILD_INFO, GAUGE, "build_info", "version,librdkafka,libpq", "Always 1; the labels say what was built.")

enum metric_id {
#define X(id, kind, name, labels, help) METRIC_##id,
    RELAY_METRICS(X)
#undef X
        METRIC_COUNT
};

struct metrics;
struct metric_series;

struct metrics *metrics_new(struct relay_error *error);
void metrics_free(struct metrics *metrics);

// Finds or makes the series; values: as many as the metric has labels (copied). Never NULL: when memory or room is out,
// the "other" series, which always exists. Takes a lock: not for the hot path.
struct metric_series *metrics_series(struct metrics *metrics, enum metric_id id, const char *const *values);
#define metrics_series0(m, id)          metrics_series((m), (id), NULL)
#define metrics_series1(m, id, a)       metrics_series((m), (id), (const char *const[]){(a)})
#define metrics_series2(m, id, a, b)    metrics_series((m), (id), (const char *const[]){(a), (b)})
#define metrics_series3(m, id, a, b, c) metrics_series((m), (id), (const char *const[]){(a), (b), (c)})
// Takes the series out of the output (a partition that was revoked). A gauge's place may be given to other label values
// from here on: whoever wants it back looks it up again. A counter keeps its place and its count.
void metrics_retire(struct metrics *metrics, struct metric_series *series);
bool metric_is_shared(const struct metric_series *series); // the "other" series

void metric_add(struct metric_series *series, uint64_t by);      // counters
void metric_set(struct metric_series *series, double value);     // gauges
void metric_observe(struct metric_series *series, double value); // histograms
void metric_observe_many(struct metric_series *series, double value, uint64_t times);
double metric_value(const struct metric_series *series); // counter or gauge; a histogram's count

// Calls back for each series that is shown, with the values of its labels (as many as the metric has; valid during the
// call) and metric_value(). Under the lock of the metrics: the callback looks up no series.
typedef void metrics_visitor(void *context, const char *const *values, double value);
void metrics_each(struct metrics *metrics, enum metric_id id, metrics_visitor *visitor, void *context);

// Prometheus text format 0.0.4, process_* included. malloc'd, *length without the final NUL. NULL: out of memory.
char *metrics_render(struct metrics *metrics, size_t *length);

#endif
