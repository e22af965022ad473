// SPDX-License-Identifier: Apache-2.0
//
// See kafka_producer.h. The happy path of a transaction: begin, send ..., wait (all reports are in), send the receipt,
// wait, commit. The reports are awaited before commit_transaction() because its own flush polls in coarse steps on
// older versions, and because a receipt must name nothing that was not delivered.
//
// - A report with an error: counted in the flight and kept in its slot; the caller aborts and looks at the slots.
// - A call that returns "timed out": librdkafka lets the same call be made again to go on waiting, so a long wait is
//   many short ones. At the deadline: KAFKA_UNREACHABLE, for commit KAFKA_UNKNOWN; the producer is then of no more use.
// - Without transactions a record that is refused for good ends the client (enable.gapless.guarantee): otherwise
//   librdkafka would number what is queued behind it anew and deliver it, before the caller sends the refused record's
//   neighbours again. kafka_producer_abort() makes another client, in the same producer.
// - init_transactions is told until the deadline that the transaction before is still being ended: KAFKA_OPERATOR,
//   since Kafka answers and some partition does not take the marker of the end.
// - A call that does not return at all (seen with a missing coordinator): the caller's heartbeat falls silent, /live
//   fails and the supervisor ends the process. Nothing is lost by that.
// - A broker connection that is closed: noted for kafka_producer_suspicious(), at the socket, because librdkafka
//   neither reports a closed connection to its error callback (it counts it as information) nor logs one like another
//   within 30 s.
#include "relay/kafka/kafka_producer.h"

#include "relay/base/fnv.h"
#include "relay/base/log.h"
#include "relay/kafka/kafka_burial.h"
#include "relay/kafka/kafka_conf.h"
#include "relay/kafka/kafka_error.h"
#include "relay/kafka/kafka_producer_conf.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#define SLICE_MS      500
#define INIT_SLICE_MS 10
#define TROUBLE_AGE   DURATION_S(60) // librdkafka tells the same trouble again every 30 s
#define SAID_AGE      DURATION_S(5)  // what a coordinator answers at each try is told by most slices, not by each one

struct topic {
    struct kafka_topic public;
    struct topic *next;
    bool exists;
    char name[];
};

#define TOPIC_BUCKETS 256

struct kafka_producer {
    rd_kafka_t *client;
    atomic_int holders; // its owner, and each client that is not destroyed yet: its callbacks come here
    bool left;          // a client was left to its burial
    const struct relay_context *context;
    struct kafka_producer_options options; // transactional_id: not kept
    struct kafka_tick tick;
    struct kafka_producer_settings settings;
    bool transactional;
    bool initialised;   // init_transactions has succeeded already
    bool reached;       // a broker itself, not only the bootstrap address
    atomic_bool closed; // a connection, since the last begin; librdkafka's threads set it
    size_t pending;     // over all flights
    struct topic *topics[TOPIC_BUCKETS];

    pthread_mutex_t trouble_lock;
    // under it
    char trouble[200];
    struct mono_time troubled_at;
};

// In any thread of librdkafka. A connection that was closed in good order is told too, as information.
static void hear(const rd_kafka_t *client, int level, const char *facility, const char *text)
{
    struct kafka_producer *producer = client == NULL ? NULL : rd_kafka_opaque(client);
    if (producer != NULL && level <= LOG_WARNING && strcmp(facility, "FAIL") == 0) {
        pthread_mutex_lock(&producer->trouble_lock);
        kafka_error_steady(producer->trouble, sizeof(producer->trouble), text);
        producer->troubled_at = clock_mono(producer->context->clock);
        pthread_mutex_unlock(&producer->trouble_lock);
    }
    kafka_conf_log(client, level, facility, text);
}

bool kafka_producer_trouble(struct kafka_producer *producer, char *text, size_t room)
{
    pthread_mutex_lock(&producer->trouble_lock);
    bool fresh = producer->trouble[0] != '\0' &&
        mono_since(clock_mono(producer->context->clock), producer->troubled_at).ns < TROUBLE_AGE.ns;
    snprintf(text, room, "%s", fresh ? producer->trouble : "");
    pthread_mutex_unlock(&producer->trouble_lock);
    return fresh;
}

// The deadline has passed: error->text goes on with what was heard of the brokers. Returns false.
static bool with_trouble(struct kafka_producer *producer, struct relay_error *error)
{
    char trouble[sizeof(producer->trouble)];
    if (error != NULL && kafka_producer_trouble(producer, trouble, sizeof(trouble))) {
        size_t length = strlen(error->text);
        snprintf(error->text + length, sizeof(error->text) - length, "; %s", trouble);
    }
    return false;
}

static void report(rd_kafka_t *client, const rd_kafka_message_t *message, void *opaque)
{
    (void)client;
    struct kafka_producer *producer = opaque;
    struct kafka_slot *slot = message->_private;
    struct kafka_flight *flight = slot->flight;
    assert(flight->pending > 0 && producer->pending > 0);
    flight->pending--;
    producer->pending--;
    slot->partition = message->partition;
    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
        flight->partition = message->partition;
        flight->offset = message->offset;
        return;
    }
    slot->error = message->err;
    flight->failed++;
    bool with_others = message->err == RD_KAFKA_RESP_ERR__PURGE_QUEUE ||
        message->err == RD_KAFKA_RESP_ERR__PURGE_INFLIGHT || message->err == RD_KAFKA_RESP_ERR_INVALID_RECORD;
    if (flight->first_error == 0 ||
        (!with_others && kafka_error_code((rd_kafka_resp_err_t)flight->first_error) != RELAY_ERROR_KAFKA_POISON)) {
        flight->first_error = message->err;
    }
}

// In a thread of librdkafka, before it repeats a request on another connection.
static int close_socket(int fd, void *opaque)
{
    struct kafka_producer *producer = opaque;
    atomic_store(&producer->closed, true);
    return close(fd);
}

bool kafka_producer_try(const struct relay_context *context, const struct kafka_producer_options *options,
    struct relay_error *error)
{
    return kafka_conf_try(KAFKA_CLIENT_PRODUCER, kafka_producer_conf(context, options, error), error);
}

static void release(void *what)
{
    struct kafka_producer *producer = what;
    if (atomic_fetch_sub(&producer->holders, 1) == 1) {
        pthread_mutex_destroy(&producer->trouble_lock);
        free(producer);
    }
}

// A client with messages is waited for, since they point to their batch.
static void destroy_client(struct kafka_producer *producer)
{
    for (size_t i = 0; i < TOPIC_BUCKETS; i++) {
        for (struct topic *topic = producer->topics[i], *next; topic != NULL; topic = next) {
            next = topic->next;
            rd_kafka_topic_destroy(topic->public.handle);
            free(topic);
        }
        producer->topics[i] = NULL;
    }
    struct mono_time deadline = producer->pending > 0
        ? (struct mono_time){INT64_MAX}
        : mono_add(clock_mono(producer->context->clock), KAFKA_BURIAL_WAIT);
    if (producer->client != NULL &&
        !kafka_client_bury(producer->client, (struct kafka_estate){release, producer}, producer->tick, deadline)) {
        log_event(LOG_LEVEL_WARNING, "kafka.close_hangs",
            "librdkafka does not let go of a producer; it is left behind");
        producer->left = true;
    }
    producer->client = NULL;
}

// Makes a client of the producer, in place of the one that it has.
static bool make_client(struct kafka_producer *producer, const struct kafka_producer_options *options,
    struct relay_error *error)
{
    rd_kafka_conf_t *conf = kafka_producer_conf(producer->context, options, error);
    if (conf == NULL) {
        return false;
    }
    producer->settings = kafka_producer_settings(conf, producer->transactional);
    rd_kafka_conf_set_opaque(conf, producer);
    rd_kafka_conf_set_log_cb(conf, hear);
    rd_kafka_conf_set_dr_msg_cb(conf, report);
    rd_kafka_conf_set_closesocket_cb(conf, close_socket);
    rd_kafka_t *client = kafka_client_new(KAFKA_CLIENT_PRODUCER, conf, error);
    if (client == NULL) {
        return false;
    }
    destroy_client(producer);
    atomic_fetch_add(&producer->holders, 1);
    producer->client = client;
    producer->reached = producer->initialised = false;
    return true;
}

struct kafka_producer *kafka_producer_new(const struct relay_context *context,
    const struct kafka_producer_options *options, struct kafka_tick tick, struct relay_error *error)
{
    struct kafka_producer *producer = calloc(1, sizeof(*producer));
    if (producer == NULL) {
        error_no_memory(error, "a Kafka producer");
        return NULL;
    }
    atomic_init(&producer->holders, 1);
    producer->context = context;
    producer->options = *options;
    producer->options.transactional_id = NULL;
    producer->tick = tick;
    producer->transactional = options->transactional_id != NULL;
    int failed = pthread_mutex_init(&producer->trouble_lock, NULL);
    if (failed != 0) {
        error_set_detail(error, RELAY_ERROR_SYSTEM, failed, "a lock cannot be made");
        free(producer);
        return NULL;
    }
    if (!make_client(producer, options, error)) {
        release(producer);
        return NULL;
    }
    return producer;
}

// Does not wait for the brokers' threads, of which one may be in the resolver: what they have is reported later.
static void purge(struct kafka_producer *producer)
{
    rd_kafka_purge(producer->client,
        RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT | RD_KAFKA_PURGE_F_NON_BLOCKING);
}

bool kafka_producer_free(struct kafka_producer *producer)
{
    if (producer == NULL) {
        return true;
    }
    purge(producer);
    struct mono_time deadline = mono_add(clock_mono(producer->context->clock), DURATION_S(2));
    while (producer->pending > 0 && !mono_reached(clock_mono(producer->context->clock), deadline)) {
        rd_kafka_poll(producer->client, 10);
        producer->tick.function(producer->tick.context);
    }
    destroy_client(producer);
    bool left = producer->left;
    release(producer);
    return !left;
}

rd_kafka_t *kafka_producer_client(struct kafka_producer *producer)
{
    return producer->client;
}

size_t kafka_producer_message_max(const struct kafka_producer *producer)
{
    return producer->settings.message_max;
}

size_t kafka_producer_set_bytes(const struct kafka_producer *producer)
{
    return producer->settings.set_bytes;
}

struct duration kafka_producer_transaction_timeout(const struct kafka_producer *producer)
{
    return producer->settings.transaction_timeout;
}

static int slice_ms(const struct kafka_producer *producer, struct mono_time deadline)
{
    int left = duration_to_poll_ms(mono_left(clock_mono(producer->context->clock), deadline));
    return left > SLICE_MS ? SLICE_MS : left;
}

typedef rd_kafka_error_t *transactional_call(rd_kafka_t *client, int timeout_ms);

// A call that ran out of its slice is resumed by the next one. So is init_transactions while the coordinator is busy or
// not there yet. Each resumption asks at once, where librdkafka by itself would ask every 500 ms; the first time always
// in vain, since it drops the connection to the bootstrap address when it has learnt the brokers.
static bool goes_on(rd_kafka_error_t *failed, transactional_call *call)
{
    rd_kafka_resp_err_t code = rd_kafka_error_code(failed);
    enum relay_error_code ours = kafka_error_code(code);
    return rd_kafka_error_is_retriable(failed) &&
        (code == RD_KAFKA_RESP_ERR__TIMED_OUT ||
            (call == rd_kafka_init_transactions &&
                (ours == RELAY_ERROR_KAFKA_RETRIABLE || ours == RELAY_ERROR_KAFKA_UNREACHABLE)));
}

// The deadline has passed; `code` is what librdkafka said last. A transaction whose markers cannot be written is in the
// way for as long as that lasts: the coordinator writes them until each partition has taken its own.
static bool without_outcome(struct kafka_producer *producer, transactional_call *call, const char *what,
    rd_kafka_resp_err_t code, struct relay_error *error)
{
    if (call == rd_kafka_init_transactions && code == RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS) {
        return error_set_detail(error, RELAY_ERROR_KAFKA_OPERATOR, (int)code,
            "%s: Kafka cannot end the transaction before: a partition that it wrote to, or one of "
            "__transaction_state, has no leader or too few in-sync replicas. Restore it: kafka-topics.sh --describe "
            "--unavailable-partitions, and --under-min-isr-partitions (%s)",
            what, rd_kafka_err2name(code));
    }
    error_set(error, RELAY_ERROR_KAFKA_UNREACHABLE, "%s: no outcome until the deadline (%s)", what,
        rd_kafka_err2str(code));
    return with_trouble(producer, error);
}

bool kafka_producer_unended(const struct relay_error *error)
{
    return error->code == RELAY_ERROR_KAFKA_OPERATOR && error->detail == RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS;
}

// Makes the call in slices until it has an outcome, the first one `slice` ms long and each twice as long as the one
// before. false and `timed_out`: the deadline passed first.
static bool call_in_slices(struct kafka_producer *producer, transactional_call *call, const char *what, int slice,
    struct mono_time deadline, bool *timed_out, struct relay_error *error)
{
    rd_kafka_resp_err_t said = RD_KAFKA_RESP_ERR_NO_ERROR;
    struct mono_time said_at = {0};
    *timed_out = false;
    for (;; slice *= slice < SLICE_MS ? 2 : 1) {
        int most = slice_ms(producer, deadline);
        rd_kafka_error_t *failed = call(producer->client, slice < most ? slice : most);
        if (failed == NULL) {
            return true;
        }
        if (!goes_on(failed, call)) {
            return kafka_error_take(error, failed, what);
        }
        rd_kafka_resp_err_t code = rd_kafka_error_code(failed);
        rd_kafka_error_destroy(failed);
        struct mono_time now = clock_mono(producer->context->clock);
        if (code != RD_KAFKA_RESP_ERR__TIMED_OUT) {
            said = code;
            said_at = now;
        }
        if (mono_reached(now, deadline)) {
            *timed_out = true;
            bool fresh = said != RD_KAFKA_RESP_ERR_NO_ERROR && mono_since(now, said_at).ns < SAID_AGE.ns;
            return without_outcome(producer, call, what, fresh ? said : code, error);
        }
        if (call == rd_kafka_init_transactions && producer->context->stop != NULL &&
            stop_raised(producer->context->stop)) {
            return error_set(error, RELAY_ERROR_STOPPED, "%s: the relay is stopping", what);
        }
        producer->tick.function(producer->tick.context);
    }
}

// Where this thread gets the processor back late, the answer may be there; librdkafka then refuses a second call.
void kafka_producer_init_start(struct kafka_producer *producer, struct duration within)
{
    if (producer->transactional) {
        rd_kafka_error_t *failed = rd_kafka_init_transactions(producer->client, duration_to_poll_ms(within));
        producer->initialised = failed == NULL;
        if (failed != NULL) {
            rd_kafka_error_destroy(failed); // what is not for now only comes again
        }
    }
}

// The first answer comes from the bootstrap address, which librdkafka drops now. Asked again, it connects to a broker
// and gets the producer's id there, which it would otherwise do up to 500 ms later.
static bool is_first_answer(struct kafka_producer *producer)
{
    bool first = !producer->reached;
    producer->reached = true;
    return first;
}

bool kafka_producer_reach(struct kafka_producer *producer, struct mono_time deadline, struct relay_error *error)
{
    for (;;) {
        const struct rd_kafka_metadata *metadata = NULL;
        rd_kafka_resp_err_t code = rd_kafka_metadata(producer->client, 0, NULL, &metadata,
            slice_ms(producer, deadline));
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR) {
            rd_kafka_metadata_destroy(metadata);
            if (is_first_answer(producer)) {
                continue;
            }
            return true;
        }
        if (mono_reached(clock_mono(producer->context->clock), deadline)) {
            kafka_error_set(error, code, "asking the brokers");
            return with_trouble(producer, error);
        }
        if (producer->context->stop != NULL && stop_raised(producer->context->stop)) {
            return error_set(error, RELAY_ERROR_STOPPED, "asking the brokers: the relay is stopping");
        }
        rd_kafka_poll(producer->client, 20);
        producer->tick.function(producer->tick.context);
    }
}

bool kafka_producer_init(struct kafka_producer *producer, struct mono_time deadline, struct relay_error *error)
{
    if (!producer->transactional) {
        return kafka_producer_reach(producer, deadline, error);
    }
    bool timed_out;
    producer->reached = producer->initialised ||
        call_in_slices(producer, rd_kafka_init_transactions, "init_transactions", INIT_SLICE_MS, deadline, &timed_out,
            error);
    return producer->reached;
}

bool kafka_producer_begin(struct kafka_producer *producer, struct relay_error *error)
{
    rd_kafka_poll(producer->client, 0);
    atomic_store(&producer->closed, false);
    return !producer->transactional ||
        kafka_error_take(error, rd_kafka_begin_transaction(producer->client), "begin_transaction");
}

static struct topic **find_topic(struct kafka_producer *producer, const char *name)
{
    struct topic **link = &producer->topics[fnv_text(FNV_START, name) % TOPIC_BUCKETS];
    while (*link != NULL && strcmp((*link)->name, name) != 0) {
        link = &(*link)->next;
    }
    return link;
}

static struct topic *add_topic(struct kafka_producer *producer, struct topic **link, const char *name,
    struct relay_error *error)
{
    size_t length = strlen(name) + 1;
    struct topic *topic = calloc(1, sizeof(*topic) + length);
    if (topic == NULL) {
        error_no_memory(error, "a topic");
        return NULL;
    }
    memcpy(topic->name, name, length);
    topic->public.name = topic->name;
    topic->public.handle = rd_kafka_topic_new(producer->client, name, NULL);
    if (topic->public.handle == NULL) {
        kafka_error_set(error, rd_kafka_last_error(), "topic %s", name);
        free(topic);
        return NULL;
    }
    *link = topic;
    return topic;
}

// Asks the brokers for the topic; where [kafka] allow.auto.create.topics is true, they may make it now.
static bool look_up(struct kafka_producer *producer, struct topic *topic, struct mono_time deadline,
    struct relay_error *error)
{
    for (;;) {
        const struct rd_kafka_metadata *metadata = NULL;
        rd_kafka_resp_err_t code = rd_kafka_metadata(producer->client, 0, topic->public.handle, &metadata,
            slice_ms(producer, deadline));
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR) {
            code = metadata->topic_cnt == 1 ? metadata->topics[0].err : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
            topic->public.partitions = metadata->topic_cnt == 1 ? metadata->topics[0].partition_cnt : 0;
            rd_kafka_metadata_destroy(metadata);
        }
        // A topic that is just being made has no leader yet; that needs no operator.
        bool passing = code == RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE || code == RD_KAFKA_RESP_ERR__TIMED_OUT ||
            code == RD_KAFKA_RESP_ERR__TRANSPORT;
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR && is_first_answer(producer)) {
            continue;
        }
        if (!passing) {
            topic->exists = code == RD_KAFKA_RESP_ERR_NO_ERROR && topic->public.partitions > 0;
            if (topic->exists) { // a name that somebody invents has no series, of which there are only so many
                topic->public.published = metrics_series1(producer->context->metrics, METRIC_EVENTS_PUBLISHED,
                    topic->name);
            }
            return topic->exists || kafka_error_set(error, code, "topic %s", topic->name);
        }
        if (mono_reached(clock_mono(producer->context->clock), deadline)) {
            kafka_error_set(error, code, "topic %s", topic->name);
            return with_trouble(producer, error);
        }
        rd_kafka_poll(producer->client, 20);
        producer->tick.function(producer->tick.context);
    }
}

const struct kafka_topic *kafka_producer_topic(struct kafka_producer *producer, const char *name,
    struct mono_time deadline, struct relay_error *error)
{
    struct topic **link = find_topic(producer, name);
    struct topic *topic = *link != NULL ? *link : add_topic(producer, link, name, error);
    if (topic == NULL || (!topic->exists && !look_up(producer, topic, deadline, error))) {
        return NULL;
    }
    return &topic->public;
}

bool kafka_producer_has_topic(struct kafka_producer *producer, const char *name)
{
    const struct topic *topic = *find_topic(producer, name);
    return topic != NULL && topic->exists;
}

bool kafka_producer_makes_topics(const struct kafka_producer *producer)
{
    return producer->settings.makes_topics;
}

void kafka_producer_forget_topic(struct kafka_producer *producer, const char *name)
{
    struct topic *topic = *find_topic(producer, name);
    if (topic != NULL) {
        topic->exists = false;
    }
}

static rd_kafka_error_t *produce(struct kafka_producer *producer, const struct kafka_message *message,
    struct kafka_slot *slot)
{
    // librdkafka takes pointers to non-const; without RD_KAFKA_MSG_F_FREE it only reads.
    union {
        const char *given;
        char *taken;
    } value = {.given = message->value}, key = {.given = message->key};
    rd_kafka_vu_t parts[] = {
        {.vtype = RD_KAFKA_VTYPE_RKT, .u.rkt = message->topic->handle},
        {.vtype = RD_KAFKA_VTYPE_PARTITION, .u.i32 = message->partition},
        {.vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = {.ptr = value.taken, .size = message->value_length}},
        {.vtype = RD_KAFKA_VTYPE_KEY, .u.mem = {.ptr = key.taken, .size = message->key_length}},
        {.vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = slot},
        {.vtype = RD_KAFKA_VTYPE_TIMESTAMP, .u.i64 = message->timestamp_ms},
        {.vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = message->headers},
    };
    size_t count = sizeof(parts) / sizeof(parts[0]) - (message->headers == NULL);
    return rd_kafka_produceva(producer->client, parts, count);
}

bool kafka_producer_send(struct kafka_producer *producer, const struct kafka_message *message,
    struct kafka_flight *flight, struct kafka_slot *slot, struct mono_time deadline, struct relay_error *error)
{
    slot->flight = flight;
    slot->error = 0;
    slot->partition = KAFKA_NO_PARTITION;
    for (;;) {
        rd_kafka_error_t *failed = produce(producer, message, slot);
        if (failed == NULL) {
            flight->pending++;
            producer->pending++;
            return true;
        }
        if (rd_kafka_error_code(failed) != RD_KAFKA_RESP_ERR__QUEUE_FULL ||
            mono_reached(clock_mono(producer->context->clock), deadline)) {
            return kafka_error_take(error, failed, "produce");
        }
        rd_kafka_error_destroy(failed);
        kafka_producer_poll(producer, DURATION_MS(10));
        producer->tick.function(producer->tick.context);
    }
}

void kafka_producer_poll(struct kafka_producer *producer, struct duration wait)
{
    rd_kafka_poll(producer->client, duration_to_poll_ms(wait));
}

void kafka_producer_flush(struct kafka_producer *producer, struct duration wait)
{
    // While it flushes, librdkafka does not wait out linger.ms; it serves the reports, and returns when none is
    // missing.
    rd_kafka_flush(producer->client, duration_to_poll_ms(wait));
}

bool kafka_producer_commit(struct kafka_producer *producer, struct mono_time deadline, struct relay_error *error)
{
    if (!producer->transactional) {
        return true;
    }
    struct relay_error why = {0};
    bool timed_out;
    if (call_in_slices(producer, rd_kafka_commit_transaction, "commit_transaction", SLICE_MS, deadline, &timed_out,
            &why)) {
        return true;
    }
    // Refused for certain only when librdkafka wants an abort.
    bool certain = why.code == RELAY_ERROR_KAFKA_ABORTED;
    if (error != NULL) {
        *error = why;
    }
    return certain ? false : error_set_detail(error, RELAY_ERROR_KAFKA_UNKNOWN, why.detail, "%s", why.text);
}

bool kafka_producer_abort(struct kafka_producer *producer, struct mono_time deadline, struct relay_error *error)
{
    bool done = true;
    if (producer->transactional) {
        bool timed_out;
        done = call_in_slices(producer, rd_kafka_abort_transaction, "abort_transaction", SLICE_MS, deadline, &timed_out,
            error);
    } else {
        purge(producer);
    }
    while (producer->pending > 0) {
        if (mono_reached(clock_mono(producer->context->clock), deadline)) {
            return done && error_set(error, RELAY_ERROR_KAFKA_UNREACHABLE, "abort: messages still on their way");
        }
        rd_kafka_poll(producer->client, slice_ms(producer, deadline));
        producer->tick.function(producer->tick.context);
    }
    if (!producer->transactional && rd_kafka_fatal_error(producer->client, NULL, 0) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        done = make_client(producer, &producer->options, error);
    }
    return done;
}

bool kafka_producer_suspicious(const struct kafka_producer *producer)
{
    return producer->transactional && atomic_load(&producer->closed);
}
