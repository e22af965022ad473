// SPDX-License-Identifier: Apache-2.0
//
// Happy path: subscribe; a rebalance assigns partitions, which are paused before and after the assignment, so that
// nothing is fetched from the place-holder offset 0; the owner says where to begin; messages come one by one
// (librdkafka drops what a seek or a revocation has overtaken only when messages are popped one by one); commits go out
// through a queue of their own.
//
// Failures:
// - a broker is away: librdkafka reconnects by itself; told as trouble, so that the board shows it;
// - the offset is not in the log: auto.offset.reset=error makes it an event of that partition;
// - a seek that librdkafka refuses (the partition stopped after such an error): the partition is taken out of the
//   assignment and put back at the offset;
// - a fatal error, or this member was fenced: told as finished;
// - partitions are assigned while it is closed: told, and given back with all others;
// - closing hangs (a coordinator that accepts and never answers): after the deadline the handle is left to a detached
//   thread.
#include "relay/kafka/kafka_consumer.h"

#include "relay/base/log.h"
#include "relay/kafka/kafka_burial.h"
#include "relay/kafka/kafka_conf.h"
#include "relay/kafka/kafka_consumer_conf.h"
#include "relay/kafka/kafka_error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// librdkafka's words, behind which the topic or pattern stands
#define ABSENT             "Subscribed topic not available: "
#define BEGINNING_LIMIT_MS 3000

struct kafka_consumer {
    const struct relay_context *context;
    struct kafka_consumer_listener listener;
    rd_kafka_t *client;
    rd_kafka_queue_t *queue;   // of the consumer, for its wake-ups
    rd_kafka_queue_t *commits; // results
    const char *const *topics; // the owner's
    size_t topic_count;
    bool member, committing;
    bool closing, gave_back; // gave_back: the closing has been given everything back
    struct mono_time commit_sent;
    struct duration commit_limit, session_timeout;
    char trouble[200]; // why a connection failed last
};

enum membership { LEFT, EAGER, COOPERATIVE };

// Of two changes that wait when the closing begins (what we have not heard of yet, and its end), librdkafka takes the
// first answer as giving back everything and ends the membership: who answered the second would wait for ever.
static enum membership membership_of(struct kafka_consumer *consumer)
{
    if (consumer->gave_back) {
        return LEFT;
    }
    consumer->gave_back = consumer->closing;
    const char *protocol = rd_kafka_rebalance_protocol(consumer->client);
    return protocol == NULL ? LEFT : strcmp(protocol, "COOPERATIVE") == 0 ? COOPERATIVE : EAGER;
}

static void on_rebalance(rd_kafka_t *client, rd_kafka_resp_err_t code, rd_kafka_topic_partition_list_t *partitions,
    void *opaque)
{
    struct kafka_consumer *consumer = opaque;
    enum membership membership = membership_of(consumer);
    rd_kafka_error_t *failed = NULL;
    rd_kafka_resp_err_t failed_code = RD_KAFKA_RESP_ERR_NO_ERROR;
    if (code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS && membership == LEFT) {
        return;
    }
    if (code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
        for (int i = 0; i < partitions->cnt; i++) {
            partitions->elems[i].offset = 0; // never fetched: paused until the owner says where to begin
        }
        rd_kafka_pause_partitions(client, partitions);
        if (membership == COOPERATIVE) {
            failed = rd_kafka_incremental_assign(client, partitions);
        } else {
            failed_code = rd_kafka_assign(client, partitions);
        }
        rd_kafka_pause_partitions(client, partitions);
        consumer->listener.assigned(consumer->listener.context, partitions);
    } else {
        bool lost = code != RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS || rd_kafka_assignment_lost(client);
        if (!consumer->listener.revoked(consumer->listener.context, partitions, lost)) {
            // Given back, they would be somebody else's at once. librdkafka goes on with its heartbeats, so that the
            // coordinator waits; it is destroyed without asking for the partitions again.
            kafka_consumer_stay(consumer);
            return;
        }
        if (membership == COOPERATIVE) {
            failed = rd_kafka_incremental_unassign(client, partitions);
        } else if (membership == EAGER) {
            failed_code = rd_kafka_assign(client, NULL);
        }
    }
    struct relay_error error;
    if (failed ? !kafka_error_take(&error, failed, "changing the assignment")
               : failed_code && !kafka_error_set(&error, failed_code, "changing the assignment")) {
        consumer->listener.trouble(consumer->listener.context, &error, true);
    }
}

static void on_error(rd_kafka_t *client, int code, const char *reason, void *opaque)
{
    struct kafka_consumer *consumer = opaque;
    struct relay_error error;
    char why[256];
    if (code == RD_KAFKA_RESP_ERR__FATAL) {
        rd_kafka_resp_err_t fatal = rd_kafka_fatal_error(client, why, sizeof(why));
        kafka_error_set(&error, fatal, "%s", why);
        consumer->listener.trouble(consumer->listener.context, &error, true);
        return;
    }
    kafka_error_steady(why, sizeof(why), reason ? reason : "Kafka");
    if (code != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) {
        snprintf(consumer->trouble, sizeof(consumer->trouble), "%.*s", (int)sizeof(consumer->trouble) - 1, why);
        kafka_error_set(&error, (rd_kafka_resp_err_t)code, "%s", why);
    } else { // which says less than what came before it
        kafka_error_set(&error, (rd_kafka_resp_err_t)code, "%s%s%.40s", consumer->trouble,
            consumer->trouble[0] == '\0' ? "" : "; ", why);
    }
    consumer->listener.trouble(consumer->listener.context, &error, false);
}

bool kafka_consumer_try(const struct relay_context *context, const struct kafka_consumer_options *options,
    struct relay_error *error)
{
    return kafka_conf_try(KAFKA_CLIENT_CONSUMER, kafka_consumer_conf(context, options, error), error);
}

static bool subscribe(struct kafka_consumer *consumer, const struct kafka_consumer_options *options,
    struct relay_error *error)
{
    rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new((int)options->topic_count);
    for (size_t i = 0; i < options->topic_count; i++) {
        rd_kafka_topic_partition_list_add(topics, options->topics[i], RD_KAFKA_PARTITION_UA);
    }
    rd_kafka_resp_err_t code = rd_kafka_subscribe(consumer->client, topics);
    rd_kafka_topic_partition_list_destroy(topics);
    return code == RD_KAFKA_RESP_ERR_NO_ERROR || kafka_error_set(error, code, "subscribing to the routes' topics");
}

struct kafka_consumer *kafka_consumer_new(const struct relay_context *context,
    const struct kafka_consumer_options *options, const struct kafka_consumer_listener *listener,
    struct relay_error *error)
{
    static const uint64_t one = 1;
    struct kafka_consumer *consumer = calloc(1, sizeof(*consumer));
    if (!consumer) {
        error_no_memory(error, "making a Kafka consumer");
        return NULL;
    }
    consumer->context = context;
    consumer->listener = *listener;
    consumer->topics = options->topics;
    consumer->topic_count = options->topic_count;
    consumer->member = options->member;
    rd_kafka_conf_t *conf = kafka_consumer_conf(context, options, error);
    if (!conf) {
        goto consumer_held;
    }
    consumer->session_timeout = DURATION_MS(kafka_conf_number(conf, "session.timeout.ms", 45000));
    consumer->commit_limit = DURATION_MS(kafka_conf_number(conf, "socket.timeout.ms", 60000));
    rd_kafka_conf_set_opaque(conf, consumer);
    rd_kafka_conf_set_rebalance_cb(conf, on_rebalance);
    rd_kafka_conf_set_error_cb(conf, on_error);
    consumer->client = kafka_client_new(KAFKA_CLIENT_CONSUMER, conf, error); // takes conf over
    if (!consumer->client) {
        goto consumer_held;
    }
    rd_kafka_poll_set_consumer(consumer->client);
    consumer->queue = rd_kafka_queue_get_consumer(consumer->client);
    consumer->commits = rd_kafka_queue_new(consumer->client);
    rd_kafka_queue_io_event_enable(consumer->queue, options->wake_fd, &one, sizeof(one));
    rd_kafka_queue_io_event_enable(consumer->commits, options->wake_fd, &one, sizeof(one));
    if (options->member && !subscribe(consumer, options, error)) {
        kafka_consumer_close(consumer, mono_add(clock_mono(context->clock), DURATION_S(5)));
        return NULL;
    }
    return consumer;

consumer_held:
    free(consumer);
    return NULL;
}

static bool is_absent(rd_kafka_resp_err_t code, const char *text)
{
    return (code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART || code == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED) &&
        strncmp(text, ABSENT, strlen(ABSENT)) == 0;
}

// What we subscribed to that the words are about, NULL: nothing. librdkafka cuts them where an expression is very long.
static const char *meant(const struct kafka_consumer *consumer, const char *words)
{
    size_t told = strlen(words);
    for (size_t i = 0; i < consumer->topic_count; i++) {
        const char *topic = consumer->topics[i];
        size_t length = strlen(topic);
        bool cut = told <= length;
        if (strncmp(words, topic, cut ? told : length) == 0 && (cut || words[length] == ':')) {
            return topic;
        }
    }
    return NULL;
}

static void serve_error(struct kafka_consumer *consumer, const rd_kafka_message_t *message)
{
    const struct kafka_consumer_listener *listener = &consumer->listener;
    struct relay_error error;
    if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        listener->partition_end(listener->context, rd_kafka_topic_name(message->rkt), message->partition,
            message->offset);
        return;
    }
    const char *text = message->payload ? (const char *)message->payload : rd_kafka_err2str(message->err);
    const char *absent = is_absent(message->err, text) ? meant(consumer, text + strlen(ABSENT)) : NULL;
    if (absent) {
        listener->topic_absent(listener->context, absent);
        return;
    }
    kafka_error_set(&error, message->err, "%s", text);
    if (message->rkt && message->partition >= 0 &&
        (message->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET ||
            message->err == RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE)) {
        listener->partition_failed(listener->context, rd_kafka_topic_name(message->rkt), message->partition, &error);
        return;
    }
    if (message->rkt && message->partition >= 0 && listener->partition_troubled) {
        listener->partition_troubled(listener->context, rd_kafka_topic_name(message->rkt), message->partition, &error);
    }
    listener->trouble(listener->context, &error, error.class == RELAY_CLASS_FATAL);
}

void kafka_consumer_serve_commits(struct kafka_consumer *consumer)
{
    for (;;) {
        rd_kafka_event_t *event = rd_kafka_queue_poll(consumer->commits, 0);
        if (!event) {
            return;
        }
        if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_OFFSET_COMMIT && consumer->committing) {
            consumer->committing = false;
            consumer->listener.committed(consumer->listener.context, rd_kafka_event_topic_partition_list(event),
                rd_kafka_event_error(event), consumer->commit_sent);
        }
        rd_kafka_event_destroy(event);
    }
}

bool kafka_consumer_serve(struct kafka_consumer *consumer, size_t most, const bool *stop)
{
    kafka_consumer_serve_commits(consumer);
    for (size_t i = 0; i < most && !(stop && *stop); i++) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(consumer->client, 0);
        if (!message) {
            return false;
        }
        if (message->err) {
            serve_error(consumer, message);
        } else {
            consumer->listener.message(consumer->listener.context, message);
        }
        rd_kafka_message_destroy(message);
    }
    return true;
}

bool kafka_consumer_committed(struct kafka_consumer *consumer, rd_kafka_topic_partition_list_t *partitions,
    struct duration timeout, struct relay_error *error)
{
    rd_kafka_resp_err_t code = rd_kafka_committed(consumer->client, partitions, (int)duration_ms(timeout));
    for (int i = 0; !code && i < partitions->cnt; i++) {
        code = partitions->elems[i].err;
    }
    return !code || kafka_error_set(error, code, "reading committed offsets");
}

// Takes partitions out of the assignment and puts them back at their offsets.
static bool put_back(struct kafka_consumer *consumer, rd_kafka_topic_partition_list_t *partitions,
    struct relay_error *error)
{
    return kafka_error_take(error, rd_kafka_incremental_unassign(consumer->client, partitions),
               "moving to an offset") &&
        kafka_error_take(error, rd_kafka_incremental_assign(consumer->client, partitions), "moving to an offset");
}

// A seek to the log's beginning, by that name, lies still for half a second before librdkafka asks the broker where
// that is. Asked here it takes one round trip for all partitions; where the broker does not say, the name stays.
static void resolve_beginnings(struct kafka_consumer *consumer, rd_kafka_topic_partition_list_t *partitions)
{
    rd_kafka_topic_partition_list_t *asked = NULL;
    for (int i = 0; i < partitions->cnt; i++) {
        const rd_kafka_topic_partition_t *element = &partitions->elems[i];
        if (element->offset == RD_KAFKA_OFFSET_BEGINNING) {
            asked = asked ? asked : rd_kafka_topic_partition_list_new(partitions->cnt);
            rd_kafka_topic_partition_list_add(asked, element->topic, element->partition)->offset = element->offset;
        }
    }
    if (!asked) {
        return;
    }
    // ListOffsets knows the name as a time.
    if (rd_kafka_offsets_for_times(consumer->client, asked, BEGINNING_LIMIT_MS) == RD_KAFKA_RESP_ERR_NO_ERROR) {
        for (int i = 0; i < asked->cnt; i++) {
            const rd_kafka_topic_partition_t *found = &asked->elems[i];
            if (!found->err && found->offset >= 0) {
                rd_kafka_topic_partition_list_set_offset(partitions, found->topic, found->partition, found->offset);
            }
        }
    }
    rd_kafka_topic_partition_list_destroy(asked);
}

bool kafka_consumer_begin(struct kafka_consumer *consumer, rd_kafka_topic_partition_list_t *partitions,
    struct relay_error *error)
{
    resolve_beginnings(consumer, partitions);
    rd_kafka_topic_partition_list_t *stuck = rd_kafka_topic_partition_list_new(4);
    bool done = kafka_error_take(error, rd_kafka_seek_partitions(consumer->client, partitions, 5000),
        "moving to an offset");
    for (int i = 0; done && i < partitions->cnt; i++) {
        if (partitions->elems[i].err) {
            rd_kafka_topic_partition_list_add(stuck, partitions->elems[i].topic, partitions->elems[i].partition)
                ->offset = partitions->elems[i].offset;
        }
    }
    done = done && (stuck->cnt == 0 || put_back(consumer, stuck, error));
    rd_kafka_topic_partition_list_destroy(stuck);
    if (done) {
        kafka_consumer_resume(consumer, partitions);
    }
    return done;
}

void kafka_consumer_pause(struct kafka_consumer *consumer, rd_kafka_topic_partition_list_t *partitions)
{
    rd_kafka_pause_partitions(consumer->client, partitions);
}

void kafka_consumer_resume(struct kafka_consumer *consumer, rd_kafka_topic_partition_list_t *partitions)
{
    rd_kafka_resume_partitions(consumer->client, partitions);
}

bool kafka_consumer_take(struct kafka_consumer *consumer, rd_kafka_topic_partition_list_t *partitions,
    struct relay_error *error)
{
    rd_kafka_resp_err_t code = rd_kafka_assign(consumer->client, partitions);
    return !code || kafka_error_set(error, code, "reading partitions");
}

bool kafka_consumer_commit(struct kafka_consumer *consumer, const rd_kafka_topic_partition_list_t *offsets)
{
    if (consumer->committing) {
        return false;
    }
    consumer->commit_sent = clock_mono(consumer->context->clock);
    consumer->committing = rd_kafka_commit_queue(consumer->client, offsets, consumer->commits, NULL, NULL) ==
        RD_KAFKA_RESP_ERR_NO_ERROR;
    return consumer->committing;
}

bool kafka_consumer_committing(const struct kafka_consumer *consumer, struct mono_time *since)
{
    *since = consumer->commit_sent;
    return consumer->committing;
}

bool kafka_consumer_lost(const struct kafka_consumer *consumer)
{
    return rd_kafka_assignment_lost(consumer->client) != 0;
}

struct duration kafka_consumer_commit_limit(const struct kafka_consumer *consumer)
{
    return consumer->commit_limit;
}

struct duration kafka_consumer_session_timeout(const struct kafka_consumer *consumer)
{
    return consumer->session_timeout;
}

bool kafka_consumer_watermarks(struct kafka_consumer *consumer, const char *topic, int32_t partition, int64_t *low,
    int64_t *high)
{
    return rd_kafka_get_watermark_offsets(consumer->client, topic, partition, low, high) ==
        RD_KAFKA_RESP_ERR_NO_ERROR &&
        *high != RD_KAFKA_OFFSET_INVALID;
}

bool kafka_consumer_ask_watermarks(struct kafka_consumer *consumer, const char *topic, int32_t partition,
    struct duration timeout, int64_t *low, int64_t *high, struct relay_error *error)
{
    rd_kafka_resp_err_t code = rd_kafka_query_watermark_offsets(consumer->client, topic, partition, low, high,
        (int)duration_ms(timeout));
    return !code || kafka_error_set(error, code, "asking for the log's first offset");
}

static const struct rd_kafka_metadata *ask_metadata(struct kafka_consumer *consumer, bool all_topics,
    struct duration timeout)
{
    const struct rd_kafka_metadata *metadata = NULL;
    rd_kafka_resp_err_t code = rd_kafka_metadata(consumer->client, all_topics, NULL, &metadata,
        (int)duration_ms(timeout));
    return code == RD_KAFKA_RESP_ERR_NO_ERROR ? metadata : NULL;
}

bool kafka_consumer_answered(struct kafka_consumer *consumer, struct duration timeout)
{
    const struct rd_kafka_metadata *metadata = ask_metadata(consumer, false, timeout);
    if (metadata) {
        rd_kafka_metadata_destroy(metadata);
    }
    return metadata != NULL;
}

const struct rd_kafka_metadata *kafka_consumer_all_topics(struct kafka_consumer *consumer, struct duration timeout)
{
    return ask_metadata(consumer, true, timeout);
}

void kafka_consumer_stay(struct kafka_consumer *consumer)
{
    consumer->member = false;
}

bool kafka_consumer_close(struct kafka_consumer *consumer, struct mono_time deadline)
{
    if (!consumer) {
        return true;
    }
    const struct clock *clock = consumer->context->clock;
    rd_kafka_queue_io_event_enable(consumer->queue, -1, NULL, 0);
    rd_kafka_queue_io_event_enable(consumer->commits, -1, NULL, 0);
    consumer->closing = true;
    rd_kafka_queue_t *closing = rd_kafka_queue_new(consumer->client);
    rd_kafka_error_t *failed = consumer->member ? rd_kafka_consumer_close_queue(consumer->client, closing) : NULL;
    if (failed) {
        rd_kafka_error_destroy(failed); // fatal: there is nothing to leave
    } else if (consumer->member) {
        while (!rd_kafka_consumer_closed(consumer->client) && !mono_reached(clock_mono(clock), deadline)) {
            rd_kafka_message_t *message = rd_kafka_consume_queue(closing, 50); // serves the revocation
            if (message) {
                rd_kafka_message_destroy(message);
            }
        }
    }
    rd_kafka_queue_destroy(closing);
    rd_kafka_queue_destroy(consumer->commits);
    rd_kafka_queue_destroy(consumer->queue);
    struct mono_time least = mono_add(clock_mono(clock), DURATION_MS(500));
    bool closed = kafka_client_destroy_until(consumer->client, mono_before(deadline, least) ? least : deadline);
    if (!closed) {
        log_event(LOG_LEVEL_WARNING, "kafka.close_hangs",
            "librdkafka does not let go of a consumer; it is left behind");
        return false; // its callbacks may still look at the consumer
    }
    free(consumer);
    return true;
}
