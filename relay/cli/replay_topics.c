// SPDX-License-Identifier: Apache-2.0
//
// Happy path: each route that fills the table, one after the other. Find its topics and their partitions; ask Kafka for
// the offsets of the two times; read each partition from the first to the second with a consumer that is assigned by
// hand (no group, nothing is committed), committed messages only; write batch by batch what the table does not have
// (refill.c).
//
// - The table is one that the daemon fills: only offsets below what its group has committed are read, since above them
//   it may insert the same ones at the same moment.
// - What the table has had cannot be known by what it has: refused before anything is read (replay_table.c).
// - A message does not fit the table, or the server refuses its row: told (the first few) and counted, and made a dead
//   letter where that is asked for (replay_letters.c); the others go on.
// - Kafka does not deliver for STALLED: an error, with what is missing. Running it again goes over the same range and
//   finds what is there. The time of our own writing and of our own pace is none of Kafka's.
#include "relay/cli/replay.h"

#include "relay/cli/kafka_probe.h"
#include "relay/cli/refill.h"
#include "relay/cli/replay_letters.h"
#include "relay/cli/replay_table.h"
#include "relay/insert/insert_memory.h"
#include "relay/insert/insert_routes.h"
#include "relay/kafka/kafka_conf.h"
#include "relay/kafka/kafka_consumer_conf.h"
#include "relay/kafka/kafka_error.h"
#include "relay/publish/event_arena.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATIENCE    DURATION_S(15) // of one question
#define STALLED     DURATION_S(60)
#define BATCH_BYTES ((size_t)16 << 20)
#define TOLD        10

struct part {
    const char *topic; // the metadata's
    int32_t partition;
    int64_t begin, end;
    bool done;
};

struct topics_replay {
    const struct relay_context *context;
    const struct replay_options *options;
    const struct insert_routes *routes;
    size_t route_index;
    const struct config_route *route;
    struct clickhouse_client *client;
    struct refill *refill;
    struct replay_letters *letters; // NULL: none are asked for
    struct kafka_probe *probe;
    rd_kafka_t *consumer;
    rd_kafka_topic_partition_list_t *committed; // NULL: the table is not the daemon's
    struct part *parts;
    size_t part_count, open_parts;
    // the batch
    rd_kafka_message_t *kept[REFILL_MAX];
    struct source_message messages[REFILL_MAX];
    size_t count, bytes;
    struct event_arena *arena; // headers of the batch
    struct refill_result *results;
    struct mono_time start;
    int64_t read, taken, written, present; // taken: what the filter let through
    size_t absent;                         // topics of the route
    size_t refused, behind;                // behind: views may lack it
    size_t set_aside;                      // new dead letters
};

bool replay_pace(const struct relay_context *context, struct mono_time start, int64_t done, int64_t rate)
{
    struct mono_time due = mono_add(start, DURATION_NS((double)done / (double)rate * 1e9));
    return mono_reached(clock_mono(context->clock), due) ? !stop_raised(context->stop)
                                                         : !stop_wait(context->stop, context->clock, due);
}

static bool is_live(const struct topics_replay *at)
{
    for (size_t i = 0; i < insert_routes_count(at->routes); i++) {
        if (insert_routes_fills(at->routes, i, refill_table(at->refill))) {
            return true;
        }
    }
    return false;
}

// Which offsets

static rd_kafka_t *consumer_new(const struct relay_context *context, struct relay_error *error)
{
    static const char *const settings[][2] = {{"group.id", "outbox-relay-replay"}, // required, never joined
        {"enable.auto.commit", "false"}, {"enable.auto.offset.store", "false"}, {"auto.offset.reset", "error"},
        {"isolation.level", "read_committed"}, {"enable.partition.eof", "true"}};
    rd_kafka_conf_t *conf = kafka_conf_new(context, KAFKA_CLIENT_CONSUMER, "replay", error);
    for (size_t i = 0; conf && i < sizeof(settings) / sizeof(settings[0]); i++) {
        if (!kafka_conf_set(conf, settings[i][0], settings[i][1], error)) {
            rd_kafka_conf_destroy(conf);
            return NULL;
        }
    }
    // Like the daemon's member: the two often share a machine's, or a container's, memory.
    int64_t memory = context->config->insert.memory_limit / INSERT_MEMORY_MEMBER_SHARE;
    if (conf &&
        (!kafka_consumer_bound(conf, context, memory, error) || !kafka_consumer_wait_longer(conf, context, error))) {
        rd_kafka_conf_destroy(conf);
        return NULL;
    }
    return conf ? kafka_client_new(KAFKA_CLIENT_CONSUMER, conf, error) : NULL;
}

static int64_t milliseconds(struct wall_time time)
{
    return time.us / 1000;
}

// The first offset at or after the time in each part; -1 (none later) becomes the end of the log. Below 0 Kafka has no
// times: its protocol takes -1 and -2 for the ends of the log.
static bool offsets_at(struct topics_replay *at, struct wall_time time, rd_kafka_topic_partition_list_t **found,
    struct relay_error *error)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)at->part_count);
    int64_t time_ms = time.us < 0 ? 0 : milliseconds(time);
    for (size_t i = 0; i < at->part_count; i++) {
        rd_kafka_topic_partition_list_add(list, at->parts[i].topic, at->parts[i].partition)->offset = time_ms;
    }
    rd_kafka_resp_err_t code = rd_kafka_offsets_for_times(at->consumer, list, (int)duration_ms(PATIENCE));
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
        rd_kafka_topic_partition_list_destroy(list);
        return kafka_error_set(error, code, "offsets of the time");
    }
    *found = list;
    return true;
}

static int64_t offset_in(const rd_kafka_topic_partition_list_t *list, const struct part *part)
{
    const rd_kafka_topic_partition_t *found = list
        ? rd_kafka_topic_partition_list_find((rd_kafka_topic_partition_list_t *)(uintptr_t)list, part->topic,
              part->partition)
        : NULL;
    return found ? found->offset : -1;
}

// To the end of the log also where --to is given: the log is in the order of publishing, not of the messages' times.
// What was created before that time, and committed or let go later, stands behind what is newer.
static bool set_range(struct topics_replay *at, struct part *part, const rd_kafka_topic_partition_list_t *from,
    struct relay_error *error)
{
    int64_t low, high, first = offset_in(from, part), committed = offset_in(at->committed, part);
    // By the consumer, which is told as the end what it can read: the first open transaction's beginning.
    rd_kafka_resp_err_t code = rd_kafka_query_watermark_offsets(at->consumer, part->topic, part->partition, &low, &high,
        (int)duration_ms(PATIENCE));
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
        return kafka_error_set(error, code, "end of %s [%d]", part->topic, (int)part->partition);
    }
    part->begin = first < 0 ? high : first < low ? low : first;
    part->end = high;
    if (at->committed && committed < 0) {
        printf("note: the group has committed nothing of %s [%d]: stop the relay while this runs, or it may insert the "
               "same\n",
            part->topic, (int)part->partition);
    } else if (at->committed && committed < part->end) {
        part->end = committed;
    }
    part->done = part->begin >= part->end;
    at->open_parts += !part->done;
    printf("%s [%d]: offsets %lld to %lld%s\n", part->topic, (int)part->partition, (long long)part->begin,
        (long long)part->end - 1, part->done ? ", nothing to read" : "");
    return true;
}

// A topic that the route names is looked for by its name: its rows would stay away without a word.
static void tell_absent(struct topics_replay *at)
{
    const struct config_list *topics = &at->route->topics;
    for (size_t i = 0; i < topics->count; i++) {
        const char *name = topics->items[i];
        bool found = name[0] == '^' || !insert_routes_match(at->routes, at->route_index, name);
        for (size_t j = 0; j < at->part_count && !found; j++) {
            found = strcmp(at->parts[j].topic, name) == 0;
        }
        if (!found) {
            fprintf(stderr, "topic %s is not there, or not visible to us: nothing of it is read\n", name);
            at->absent++;
        }
    }
}

static bool add_parts(struct topics_replay *at, struct relay_error *error)
{
    const rd_kafka_metadata_t *metadata = kafka_probe_metadata(at->probe);
    for (int i = 0; i < metadata->topic_cnt; i++) {
        const rd_kafka_metadata_topic_t *topic = &metadata->topics[i];
        if (!insert_routes_match(at->routes, at->route_index, topic->topic) || topic->partition_cnt == 0) {
            continue;
        }
        struct part *grown = reallocarray(at->parts, at->part_count + (size_t)topic->partition_cnt, sizeof(*grown));
        if (!grown) {
            return error_no_memory(error, "replaying topics");
        }
        at->parts = grown;
        for (int j = 0; j < topic->partition_cnt; j++) {
            grown[at->part_count++] = (struct part){.topic = topic->topic, .partition = topic->partitions[j].id};
        }
    }
    tell_absent(at);
    return at->part_count > 0 ||
        error_set(error, RELAY_ERROR_KAFKA_OPERATOR, "none of its topics is there, or visible to us");
}

static bool set_ranges(struct topics_replay *at, struct relay_error *error)
{
    rd_kafka_topic_partition_list_t *from = NULL;
    bool done = add_parts(at, error) && offsets_at(at, at->options->from, &from, error);
    for (size_t i = 0; done && i < at->part_count; i++) {
        done = set_range(at, &at->parts[i], from, error);
    }
    if (from) {
        rd_kafka_topic_partition_list_destroy(from);
    }
    return done;
}

// Reading

static bool assign(struct topics_replay *at, struct relay_error *error)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)at->part_count);
    for (size_t i = 0; i < at->part_count; i++) {
        if (!at->parts[i].done) {
            rd_kafka_topic_partition_list_add(list, at->parts[i].topic, at->parts[i].partition)->offset =
                at->parts[i].begin;
        }
    }
    rd_kafka_resp_err_t code = rd_kafka_assign(at->consumer, list);
    rd_kafka_topic_partition_list_destroy(list);
    return code == RD_KAFKA_RESP_ERR_NO_ERROR || kafka_error_set(error, code, "assigning partitions");
}

static void end_part(struct topics_replay *at, struct part *part)
{
    if (part->done) {
        return;
    }
    part->done = true;
    at->open_parts--;
    // Not fetched any further.
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, part->topic, part->partition);
    rd_kafka_pause_partitions(at->consumer, list);
    rd_kafka_topic_partition_list_destroy(list);
}

static struct part *part_of(struct topics_replay *at, const rd_kafka_message_t *message)
{
    const char *topic = message->rkt ? rd_kafka_topic_name(message->rkt) : "";
    for (size_t i = 0; i < at->part_count; i++) {
        if (at->parts[i].partition == message->partition && strcmp(at->parts[i].topic, topic) == 0) {
            return &at->parts[i];
        }
    }
    return NULL;
}

static bool read_headers(struct topics_replay *at, const rd_kafka_message_t *message, struct source_message *source)
{
    rd_kafka_headers_t *headers;
    if (rd_kafka_message_headers(message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        return true;
    }
    size_t count = rd_kafka_header_cnt(headers);
    struct source_header *list = event_arena_alloc(at->arena, count * sizeof(*list));
    if (!list) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        const void *value;
        list[i] = (struct source_header){0};
        rd_kafka_header_get_all(headers, i, &list[i].name, &value, &list[i].length);
        list[i].value = value;
    }
    source->headers = list;
    source->header_count = count;
    return true;
}

static bool header_is(const struct source_message *message, const char *name, const char *wanted)
{
    if (!wanted) {
        return true;
    }
    const struct source_header *header = source_message_header(message, name);
    return header && header->value && header->length == strlen(wanted) &&
        memcmp(header->value, wanted, header->length) == 0;
}

// An older one that stands behind the first of that time was published in it, and may be missing as well.
static bool is_early_enough(const struct replay_options *options, int64_t timestamp_ms)
{
    return !options->to_given || timestamp_ms < milliseconds(options->to); // -1: it has no time
}

// Takes the message over if it is wanted; *wanted says so.
static bool take_message(struct topics_replay *at, const struct part *part, rd_kafka_message_t *message, bool *wanted,
    struct relay_error *error)
{
    rd_kafka_timestamp_type_t kind;
    struct source_message *source = &at->messages[at->count];
    *source = (struct source_message){.topic = part->topic,
        .partition = part->partition,
        .offset = message->offset,
        .key = message->key,
        .key_length = message->key_len,
        .value = message->payload,
        .value_length = message->len,
        .value_room = message->len};
    int64_t timestamp = rd_kafka_message_timestamp(message, &kind); // 0 where there is none
    source->timestamp_ms = kind == RD_KAFKA_TIMESTAMP_NOT_AVAILABLE ? -1 : timestamp;
    if (!read_headers(at, message, source)) {
        return error_no_memory(error, "replaying topics");
    }
    *wanted = is_early_enough(at->options, source->timestamp_ms) &&
        header_is(source, "event_type", at->options->event_type) &&
        header_is(source, "aggregate_id", at->options->aggregate_id);
    if (*wanted) {
        at->kept[at->count++] = message;
        at->bytes += message->len + message->key_len;
    }
    return true;
}

static void drop_batch(struct topics_replay *at)
{
    for (size_t i = 0; i < at->count; i++) {
        rd_kafka_message_destroy(at->kept[i]);
    }
    at->count = at->bytes = 0;
    event_arena_reset(at->arena);
}

static bool write_batch(struct topics_replay *at, struct relay_error *error)
{
    if (at->count == 0) {
        return true;
    }
    if (!refill_write(at->refill, at->messages, at->count, false, at->results, error)) {
        return false;
    }
    if (at->letters &&
        !replay_letters_write(at->letters, at->messages, at->results, at->count, &at->set_aside, error)) {
        return false;
    }
    for (size_t i = 0; i < at->count; i++) {
        at->behind += at->results[i].views_behind;
        at->written += at->results[i].state == REFILL_WRITTEN;
        at->present += at->results[i].state == REFILL_PRESENT;
        if (at->results[i].state == REFILL_REFUSED && at->refused++ < TOLD) {
            fprintf(stderr, "%s [%d] offset %lld: %s\n", at->messages[i].topic, (int)at->messages[i].partition,
                (long long)at->messages[i].offset, at->results[i].text);
        }
    }
    at->taken += (int64_t)at->count;
    drop_batch(at);
    return replay_pace(at->context, at->start, at->taken, at->options->rate) ||
        error_set(error, RELAY_ERROR_STOPPED, "stopped");
}

// One event of the consumer. *moved: it brought us further.
static bool take_event(struct topics_replay *at, rd_kafka_message_t *message, bool *moved, struct relay_error *error)
{
    struct part *part = part_of(at, message);
    bool wanted = false, done = true;
    if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        *moved = true;
        if (part) {
            end_part(at, part);
        }
    } else if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        // What librdkafka repeats by itself comes as a retriable class; the stall's deadline judges it.
        kafka_error_set(error, message->err, "reading %s: %s", part ? part->topic : "Kafka",
            rd_kafka_message_errstr(message));
        done = error->class == RELAY_CLASS_RETRIABLE;
    } else if (part && !part->done && message->offset < part->end) {
        *moved = true;
        at->read++;
        done = take_message(at, part, message, &wanted, error);
        if (message->offset + 1 >= part->end) {
            end_part(at, part);
        }
    } else if (part) {
        end_part(at, part);
    }
    if (!wanted) {
        rd_kafka_message_destroy(message);
    }
    return done;
}

static bool read_all(struct topics_replay *at, struct relay_error *error)
{
    const struct clock *clock = at->context->clock;
    size_t batch = at->options->rate < REFILL_MAX ? (size_t)at->options->rate : REFILL_MAX;
    struct mono_time stalled = mono_add(clock_mono(clock), STALLED);
    at->start = clock_mono(clock);
    while (at->open_parts > 0) {
        bool moved = false;
        if (stop_raised(at->context->stop)) {
            return error_set(error, RELAY_ERROR_STOPPED, "stopped");
        }
        rd_kafka_message_t *message = rd_kafka_consumer_poll(at->consumer, 200);
        if (message && !take_event(at, message, &moved, error)) {
            return false;
        }
        if (at->count > 0 && (at->count >= batch || at->bytes >= BATCH_BYTES || !message)) {
            if (!write_batch(at, error)) {
                return false;
            }
            moved = true;
        }
        if (moved) {
            stalled = mono_add(clock_mono(clock), STALLED);
        } else if (mono_reached(clock_mono(clock), stalled)) {
            return error_set(error, RELAY_ERROR_TIMEOUT, "Kafka delivers nothing of %zu partitions any more",
                at->open_parts);
        }
    }
    return write_batch(at, error);
}

static bool open_all(struct topics_replay *at, struct relay_error *error)
{
    at->client = clickhouse_client_new(at->context, error);
    at->refill = at->client ? refill_open(at->context, at->client, at->route, at->options->into, error) : NULL;
    at->probe = at->refill ? kafka_probe_open(at->context, "replay", PATIENCE, error) : NULL;
    if (!at->probe) {
        return false;
    }
    if (at->options->dead_letters) {
        if (!insert_routes_fills(at->routes, at->route_index, refill_table(at->refill))) {
            return error_set(error, RELAY_ERROR_USAGE, "--dead-letters: the daemon does not fill %s by this route",
                refill_table(at->refill));
        }
        at->letters = replay_letters_open(at->context, at->client, at->route->table, error);
        if (!at->letters) {
            return false;
        }
    }
    if (is_live(at)) {
        at->committed = kafka_probe_committed(at->probe, at->context->config->insert.group_id, PATIENCE, error);
        if (!at->committed) {
            return false;
        }
    }
    at->consumer = consumer_new(at->context, error);
    at->arena = event_arena_new((size_t)1 << 20);
    at->results = calloc(REFILL_MAX, sizeof(*at->results));
    return at->consumer && ((at->arena && at->results) || error_no_memory(error, "replaying topics"));
}

static void close_all(struct topics_replay *at)
{
    if (at->arena) {
        drop_batch(at);
    }
    if (at->consumer) {
        rd_kafka_consumer_close(at->consumer);
        rd_kafka_destroy(at->consumer);
    }
    if (at->committed) {
        rd_kafka_topic_partition_list_destroy(at->committed);
    }
    kafka_probe_close(at->probe);
    replay_letters_close(at->letters);
    refill_close(at->refill);
    clickhouse_client_free(at->client);
    event_arena_free(at->arena);
    free(at->results);
    free(at->parts);
    free(at);
}

static bool replay_route(const struct relay_context *context, const struct replay_options *options,
    const struct insert_routes *routes, size_t index, size_t *left, struct relay_error *error)
{
    struct topics_replay *at = calloc(1, sizeof(*at));
    if (!at) {
        return error_no_memory(error, "replaying topics");
    }
    at->context = context;
    at->options = options;
    at->routes = routes;
    at->route_index = index;
    at->route = insert_routes_at(routes, index);
    bool done = open_all(at, error) && set_ranges(at, error);
    if (done && options->dry_run) {
        int64_t most = 0;
        for (size_t i = 0; i < at->part_count; i++) {
            most += at->parts[i].done ? 0 : at->parts[i].end - at->parts[i].begin;
        }
        printf("would read up to %lld messages into %s by route %s\n", (long long)most, refill_table(at->refill),
            at->route->name);
    } else if (done) {
        done = (at->open_parts == 0 || assign(at, error)) && read_all(at, error);
        printf("%lld messages read by route %s, %lld rows written into %s, %lld were there already, %zu do not fit\n",
            (long long)at->read, at->route->name, (long long)at->written, refill_table(at->refill),
            (long long)at->present, at->refused);
        if (at->letters) {
            printf("%zu of these are new dead letters\n", at->set_aside);
        }
    }
    *left += at->refused + at->behind + at->absent;
    close_all(at);
    return done;
}

// Without --route several may fill the table, each from topics of its own.
static bool is_wanted(const struct insert_routes *routes, size_t index, const struct replay_options *options)
{
    return options->route ? strcmp(insert_routes_at(routes, index)->name, options->route) == 0
                          : insert_routes_count(routes) == 1 || insert_routes_fills(routes, index, options->into);
}

bool replay_topics(const struct relay_context *context, const struct replay_options *options, size_t *left,
    struct relay_error *error)
{
    struct insert_routes *routes = insert_routes_new(context->config, error);
    bool done = routes != NULL, found = false;
    *left = 0;
    for (size_t i = 0; done && i < insert_routes_count(routes); i++) {
        if (is_wanted(routes, i, options)) {
            done = found || options->allow_doubles || replay_table_judge(context, options->into, error);
            found = true;
            done = done &&
                (replay_route(context, options, routes, i, left, error) ||
                    error_prefix(error, "by route %s", insert_routes_at(routes, i)->name));
        }
    }
    if (done && !found) {
        done = error_set(error, RELAY_ERROR_USAGE,
            options->route ? "there is no enabled route %s"
                           : "no enabled route fills %s: say with --route NAME whose columns to use",
            options->route ? options->route : options->into);
    }
    insert_routes_free(routes);
    return done;
}
