// SPDX-License-Identifier: Apache-2.0
//
// Happy path: somebody raises a condition; the thread wakes, lets the book decide what is news, writes it to the log,
// and posts to every receiver that is not busy whatever that one has not been told, one request at a time, all of them
// driven by one curl multi handle, so that a receiver that hangs holds up nobody.
//
// Failures:
// - a receiver does not take it: its conditions stay due; it is tried again after its backoff with what is true by
//   then. What began and ended meanwhile is never told, as nobody could do anything with it;
// - its name is not resolved in time: the request ends all the same, and the resolver's thread is left to end by itself
//   (libcurl before 7.87 waits for it; only this thread does, and never with the lock);
// - it may have taken it (cut, timed out): told again; and it counts as told where the end of an alert is concerned;
// - too many conditions (ALERT_CONDITIONS_MAX) or no memory for one: logged, not told;
// - the stop: what is due and can be sent at once is sent, until the deadline; what is firing then stays firing at the
//   receivers: another replica goes on, or the Alertmanager lets it end by itself.
#include "relay/ops/alerts.h"

#include "relay/base/log.h"
#include "relay/base/thread.h"
#include "relay/ops/alert_book.h"
#include "relay/ops/alert_message.h"
#include "relay/ops/alert_receiver.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define BATCH       50   // conditions in one request
#define CHAT_BYTES  4000 // of lines in one to a chat, which refuses or cuts long ones (Rocket.Chat: 5000)
#define CHAT_MARKUP 100  // more than a line has beside what varies
#define ROUND_MAX   DURATION_S(10)
#define MAX_SILENCE DURATION_S(60)

struct sending {
    struct alert_condition *condition;
    uint64_t news;
    enum alert_level level;
};

// One receiver and what is on its way to it.
struct outlet {
    struct alert_receiver *receiver; // NULL: none is configured
    struct sending batch[BATCH];
    size_t count;
};

struct alerts {
    const struct relay_context *context;
    CURLM *multi; // the thread's; curl_multi_wakeup by anybody
    struct heartbeat *heartbeat;
    pthread_t thread;
    struct metric_series *logged;

    pthread_mutex_t lock;
    // under the lock
    struct alert_book book;
    bool full; // it was said that there are too many conditions
    char *urls[ALERT_RECEIVERS];
    char *ca_file, *cert_file, *key_file; // of all receivers
    char *deployment;
    bool renamed; // the thread has to forget what the receivers were told under the other name
    struct alert_receiver *replacement[ALERT_RECEIVERS];
    bool replaced[ALERT_RECEIVERS]; // the thread has to take the replacement, which may be NULL

    // owned by the thread, which changes `receiver` under the lock only
    struct outlet outlets[ALERT_RECEIVERS];
    struct alert_condition *news; // copies of what is to be logged when the lock is free
    size_t news_count, news_room;
};

static void write_to_log(struct alerts *alerts, const struct alert_condition *condition)
{
    static const enum log_level levels[] = {LOG_LEVEL_INFO, LOG_LEVEL_WARNING, LOG_LEVEL_ERROR};
    log_event(levels[condition->announced], condition->announced == ALERT_OK ? "alert.resolved" : "alert.firing",
        condition->summary, LOG_TEXT("name", condition->name), LOG_TEXT("instance", condition->instance),
        LOG_TEXT("alert_level", alert_level_name(condition->announced)),
        LOG_TEXT("previous", alert_level_name(condition->before)), LOG_REAL("value", condition->value),
        LOG_BOOL("reminder", condition->repeated));
    metric_add(alerts->logged, 1);
}

// @locks held. Keeps it for the log, whose reader may be slow while others wait for the lock. Without memory it is
// written at once.
static void keep_news(void *context, const struct alert_condition *condition)
{
    struct alerts *alerts = context;
    if (alerts->news_count == alerts->news_room) {
        size_t room = alerts->news_room == 0 ? 16 : alerts->news_room * 2;
        struct alert_condition *longer = realloc(alerts->news, room * sizeof(*longer));
        if (longer == NULL) {
            write_to_log(alerts, condition);
            return;
        }
        alerts->news = longer;
        alerts->news_room = room;
    }
    alerts->news[alerts->news_count++] = *condition;
}

static void write_news(struct alerts *alerts)
{
    for (size_t i = 0; i < alerts->news_count; i++) {
        write_to_log(alerts, &alerts->news[i]);
    }
    alerts->news_count = 0;
}

static struct duration resend_of(size_t kind)
{
    return kind == ALERT_ALERTMANAGER ? ALERTMANAGER_RESEND : DURATION_NS(0);
}

static struct mono_time earlier(struct mono_time a, struct mono_time b)
{
    return mono_before(a, b) ? a : b;
}

// @locks held. Fills the outlet's batch with what its receiver has to be told. Returns the body, NULL when there is
// nothing.
static char *compose(struct alerts *alerts, size_t kind)
{
    struct outlet *outlet = &alerts->outlets[kind];
    const struct alert_condition *conditions[BATCH];
    size_t bytes = 0;
    outlet->count = 0;
    for (struct alert_condition *at = alerts->book.conditions; at != NULL && outlet->count < BATCH; at = at->next) {
        if (alert_book_due(&alerts->book, at, kind, resend_of(kind))) {
            bytes += strlen(at->summary) + strlen(at->name) + strlen(at->instance) + strlen(alerts->deployment) +
                CHAT_MARKUP;
            if (kind == ALERT_SLACK && outlet->count > 0 && bytes > CHAT_BYTES) {
                break; // the others are due at once
            }
            conditions[outlet->count] = at;
            outlet->batch[outlet->count++] = (struct sending){at, at->news, at->announced};
        }
    }
    if (outlet->count == 0) {
        return NULL;
    }
    const struct alert_sender sender = {alerts->context->instance, alerts->deployment};
    return alert_message((enum alert_receiver_kind)kind, conditions, outlet->count, &sender,
        clock_wall(alerts->context->clock));
}

// @locks held. When this receiver wants the thread again.
static struct mono_time outlet_due(struct alerts *alerts, size_t kind)
{
    struct mono_time due = {INT64_MAX};
    struct mono_time next = alert_receiver_next(alerts->outlets[kind].receiver);
    for (struct alert_condition *at = alerts->book.conditions; at != NULL; at = at->next) {
        if (alert_book_due(&alerts->book, at, kind, resend_of(kind))) {
            return next;
        }
        due = earlier(due, alert_book_resend_at(at, kind, resend_of(kind)));
    }
    return mono_before(due, next) ? next : due;
}

// @locks held. Of a deployment of this name the receivers know nothing yet, and what is on its way has the other one.
static void take_name(struct alerts *alerts)
{
    for (size_t kind = 0; kind < ALERT_RECEIVERS; kind++) {
        alerts->outlets[kind].count = 0;
        alert_book_forget(&alerts->book, kind);
    }
    alerts->renamed = false;
}

// @locks held. Those that are replaced are handed out: to free one may take as long as libcurl's resolver does.
static void take_replacements(struct alerts *alerts, struct alert_receiver *replaced[ALERT_RECEIVERS])
{
    for (size_t kind = 0; kind < ALERT_RECEIVERS; kind++) {
        if (alerts->replaced[kind]) {
            replaced[kind] = alerts->outlets[kind].receiver;
            alerts->outlets[kind] = (struct outlet){.receiver = alerts->replacement[kind]};
            alerts->replacement[kind] = NULL;
            alerts->replaced[kind] = false;
            alert_book_forget(&alerts->book, kind);
            if (alerts->outlets[kind].receiver == NULL) {
                alert_receiver_gone(alerts->context, (enum alert_receiver_kind)kind);
            }
        }
    }
}

// Lets the book decide and starts what can be started. Returns when something is due again.
static struct mono_time start_due(struct alerts *alerts)
{
    struct alert_receiver *replaced[ALERT_RECEIVERS] = {NULL};
    pthread_mutex_lock(&alerts->lock);
    take_replacements(alerts, replaced);
    if (alerts->renamed) {
        take_name(alerts);
    }
    struct mono_time due = alert_book_evaluate(&alerts->book, keep_news, alerts);
    for (size_t kind = 0; kind < ALERT_RECEIVERS; kind++) {
        struct alert_receiver *receiver = alerts->outlets[kind].receiver;
        if (receiver == NULL || alert_receiver_busy(receiver)) {
            continue;
        }
        struct mono_time next = alert_receiver_next(receiver); // may be "now": asked for before the clock is read
        if (mono_reached(clock_mono(alerts->context->clock), next)) {
            char *body = compose(alerts, kind);
            if (alerts->outlets[kind].count > 0 &&
                alert_receiver_start(receiver, alerts->multi, body, alerts->outlets[kind].count)) {
                continue;
            }
        }
        due = earlier(due, outlet_due(alerts, kind));
    }
    pthread_mutex_unlock(&alerts->lock);
    write_news(alerts);
    for (size_t kind = 0; kind < ALERT_RECEIVERS; kind++) {
        alert_receiver_free(replaced[kind], alerts->multi);
    }
    return due;
}

static void finish(struct alerts *alerts, size_t kind, CURLcode code)
{
    struct outlet *outlet = &alerts->outlets[kind];
    enum alert_outcome outcome = alert_receiver_finish(outlet->receiver, alerts->multi, code);
    pthread_mutex_lock(&alerts->lock);
    for (size_t i = 0; i < outlet->count && (outcome == ALERT_SENT || outcome == ALERT_UNCLEAR); i++) {
        const struct sending *sending = &outlet->batch[i];
        alert_book_told(&alerts->book, sending->condition, kind, sending->news, sending->level, outcome == ALERT_SENT);
    }
    pthread_mutex_unlock(&alerts->lock);
    outlet->count = 0;
}

// Moves what is under way. Returns whether anything has ended (then more may be due).
static bool drive(struct alerts *alerts)
{
    bool ended = false;
    int running = 0;
    int left = 0;
    curl_multi_perform(alerts->multi, &running);
    for (CURLMsg *message; (message = curl_multi_info_read(alerts->multi, &left)) != NULL;) {
        if (message->msg != CURLMSG_DONE) {
            continue;
        }
        CURLcode code = message->data.result;
        const CURL *easy = message->easy_handle;
        for (size_t kind = 0; kind < ALERT_RECEIVERS; kind++) {
            if (alerts->outlets[kind].receiver != NULL && alert_receiver_is(alerts->outlets[kind].receiver, easy)) {
                finish(alerts, kind, code);
                ended = true;
                break;
            }
        }
    }
    return ended;
}

static bool any_busy(const struct alerts *alerts)
{
    bool busy = false;
    for (size_t kind = 0; kind < ALERT_RECEIVERS; kind++) {
        busy = busy || (alerts->outlets[kind].receiver != NULL && alert_receiver_busy(alerts->outlets[kind].receiver));
    }
    return busy;
}

// On this thread, whose end is waited for with a deadline: what is under way may end only when libcurl's resolver does.
static void drop_receivers(struct alerts *alerts)
{
    for (size_t kind = 0; kind < ALERT_RECEIVERS; kind++) {
        pthread_mutex_lock(&alerts->lock);
        struct alert_receiver *receiver = alerts->outlets[kind].receiver;
        alerts->outlets[kind].receiver = NULL;
        pthread_mutex_unlock(&alerts->lock);
        alert_receiver_free(receiver, alerts->multi);
    }
}

static void *run(void *argument)
{
    struct alerts *alerts = argument;
    const struct clock *clock = alerts->context->clock;
    const struct stop *stop = alerts->context->stop;
    for (;;) {
        heartbeat_beat(alerts->heartbeat);
        bool stopping = stop_raised(stop);
        struct mono_time due = start_due(alerts);
        if (drive(alerts)) {
            continue;
        }
        struct mono_time now = clock_mono(clock);
        if (stopping && (!any_busy(alerts) || mono_reached(now, stop_deadline(stop)))) {
            break;
        }
        due = earlier(due, mono_add(now, ROUND_MAX));
        due = stopping ? earlier(due, stop_deadline(stop)) : due;
        struct curl_waitfd extra = {.fd = stop->fd, .events = CURL_WAIT_POLLIN};
        curl_multi_poll(alerts->multi, &extra, stopping ? 0 : 1, duration_to_poll_ms(mono_left(now, due)), NULL);
    }
    drop_receivers(alerts);
    heartbeat_end(alerts->heartbeat);
    alerts->heartbeat = NULL; // the slot is another loop's from now on
    return NULL;
}

// From here on: any thread.

static const char *url_of(const struct config_alert *config, size_t kind)
{
    const char *const urls[ALERT_RECEIVERS] = {config->webhook_url, config->slack_url, config->alertmanager_url};
    return urls[kind];
}

// Its path may be a secret.
static void free_url(char *url)
{
    if (url != NULL) {
        explicit_bzero(url, strlen(url));
        free(url);
    }
}

static void free_alerts(struct alerts *alerts)
{
    for (size_t kind = 0; kind < ALERT_RECEIVERS; kind++) {
        alert_receiver_free(alerts->outlets[kind].receiver, alerts->multi);
        alert_receiver_free(alerts->replacement[kind], alerts->multi);
        free_url(alerts->urls[kind]);
    }
    free(alerts->ca_file);
    free(alerts->cert_file);
    free(alerts->key_file);
    free(alerts->deployment);
    free(alerts->news);
    curl_multi_cleanup(alerts->multi);
    alert_book_finish(&alerts->book);
    heartbeat_end(alerts->heartbeat);
    pthread_mutex_destroy(&alerts->lock);
    free(alerts);
}

static struct alert_receiver *new_receiver(const struct alerts *alerts, size_t kind, const char *url,
    struct relay_error *error)
{
    const struct tls_files tls = {.ca_file = alerts->ca_file,
        .cert_file = alerts->cert_file,
        .key_file = alerts->key_file};
    return alert_receiver_new(alerts->context, (enum alert_receiver_kind)kind, url, &tls, error);
}

static bool make_outlets(struct alerts *alerts, const struct config_alert *config, struct relay_error *error)
{
    alerts->ca_file = strdup(config->ca_file);
    alerts->cert_file = strdup(config->cert_file);
    alerts->key_file = strdup(config->key_file);
    alerts->deployment = strdup(config->deployment);
    if (alerts->ca_file == NULL || alerts->cert_file == NULL || alerts->key_file == NULL ||
        alerts->deployment == NULL) {
        return error_no_memory(error, "the alerts");
    }
    for (size_t kind = 0; kind < ALERT_RECEIVERS; kind++) {
        const char *url = url_of(config, kind);
        alerts->urls[kind] = strdup(url);
        if (alerts->urls[kind] == NULL) {
            return error_no_memory(error, "the alerts");
        }
        if (url[0] != '\0') {
            alerts->outlets[kind].receiver = new_receiver(alerts, kind, url, error);
            if (alerts->outlets[kind].receiver == NULL) {
                return false;
            }
        }
    }
    return true;
}

struct alerts *alerts_start(const struct relay_context *context, struct relay_error *error)
{
    struct alerts *alerts = calloc(1, sizeof(*alerts));
    if (alerts == NULL) {
        error_no_memory(error, "the alerts");
        return NULL;
    }
    alerts->context = context;
    pthread_mutex_init(&alerts->lock, NULL);
    alerts->logged = metrics_series2(context->metrics, METRIC_ALERTS_SENT, "log", "ok");
    if (!alert_book_init(&alerts->book, context->clock, error)) {
        goto failed;
    }
    alerts->book.hold = context->config->alert.hold;
    alerts->book.repeat = context->config->alert.repeat;
    alerts->multi = curl_multi_init();
    if (alerts->multi == NULL) {
        error_no_memory(error, "the alerts");
        goto failed;
    }
    alerts->heartbeat = status_board_heartbeat(context->board, "alerts", MAX_SILENCE, error);
    if (alerts->heartbeat == NULL || !make_outlets(alerts, &context->config->alert, error)) {
        goto failed;
    }
    if (!thread_start(&alerts->thread, "alerts", run, alerts, error)) {
        goto failed;
    }
    return alerts;

failed:
    free_alerts(alerts);
    return NULL;
}

bool alerts_join(struct alerts *alerts, struct mono_time deadline)
{
    return thread_join_until(alerts->thread, alerts->context->clock, deadline);
}

void alerts_free(struct alerts *alerts)
{
    if (alerts != NULL) {
        free_alerts(alerts);
    }
}

// Under the lock. false: the receiver stays as it was.
static bool replace(struct alerts *alerts, size_t kind, const char *url, struct relay_error *error)
{
    struct alert_receiver *receiver = NULL;
    char *copy = strdup(url);
    if (copy == NULL) {
        return error_no_memory(error, "the alerts");
    }
    if (url[0] != '\0' && (receiver = new_receiver(alerts, kind, url, error)) == NULL) {
        free_url(copy);
        return false;
    }
    alert_receiver_free(alerts->replacement[kind], NULL); // of a reload that the thread has not seen: never used
    alerts->replacement[kind] = receiver;
    alerts->replaced[kind] = true;
    free_url(alerts->urls[kind]);
    alerts->urls[kind] = copy;
    return true;
}

// Under the lock. Whether it is another text from now on.
static bool take_text(char **own, const char *text)
{
    char *copy = strcmp(text, *own) != 0 ? strdup(text) : NULL;
    if (copy == NULL) {
        return false;
    }
    free(*own);
    *own = copy;
    return true;
}

void alerts_reload(struct alerts *alerts, const struct config *config)
{
    struct relay_error errors[ALERT_RECEIVERS] = {0};
    pthread_mutex_lock(&alerts->lock);
    bool other_files = take_text(&alerts->ca_file, config->alert.ca_file);
    other_files = take_text(&alerts->cert_file, config->alert.cert_file) || other_files;
    other_files = take_text(&alerts->key_file, config->alert.key_file) || other_files;
    alerts->renamed = take_text(&alerts->deployment, config->alert.deployment) || alerts->renamed;
    alerts->book.hold = config->alert.hold;
    alerts->book.repeat = config->alert.repeat;
    for (size_t kind = 0; kind < ALERT_RECEIVERS; kind++) {
        const char *url = url_of(&config->alert, kind);
        if (strcmp(url, alerts->urls[kind]) != 0 || (other_files && url[0] != '\0')) {
            replace(alerts, kind, url, &errors[kind]);
        }
        struct alert_receiver *const receivers[] = {alerts->outlets[kind].receiver, alerts->replacement[kind]};
        for (size_t i = 0; i < 2; i++) {
            if (receivers[i] != NULL) {
                alert_receiver_limit(receivers[i], &config->breakers[CONFIG_DEPENDENCY_ALERT]);
            }
        }
    }
    pthread_mutex_unlock(&alerts->lock);
    for (size_t kind = 0; kind < ALERT_RECEIVERS; kind++) {
        if (errors[kind].code != RELAY_ERROR_NONE) {
            log_event(LOG_LEVEL_ERROR, "alerts.reload_failed", "goes on with the receiver as it was",
                LOG_TEXT("target", alert_receiver_name((enum alert_receiver_kind)kind)), LOG_ERROR(&errors[kind]));
        }
    }
    curl_multi_wakeup(alerts->multi);
}

void alerts_raise(struct alerts *alerts, const char *name, const char *instance, enum alert_level level,
    const char *summary, double value, bool quiet)
{
    pthread_mutex_lock(&alerts->lock);
    bool taken = alert_book_raise(&alerts->book, name, instance, level, summary, value, quiet);
    bool say = !taken && !alerts->full;
    alerts->full = alerts->full || !taken;
    pthread_mutex_unlock(&alerts->lock);
    if (say) {
        log_event(LOG_LEVEL_ERROR, "alerts.full", "too many conditions at once; further ones are only logged",
            LOG_TEXT("name", name), LOG_TEXT("instance", instance), LOG_TEXT("summary", summary));
    }
    curl_multi_wakeup(alerts->multi);
}

json_t *alerts_recent_json(struct alerts *alerts)
{
    pthread_mutex_lock(&alerts->lock);
    json_t *copy = json_deep_copy(alerts->book.recent);
    pthread_mutex_unlock(&alerts->lock);
    return copy;
}
