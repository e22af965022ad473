// SPDX-License-Identifier: Apache-2.0
#include "relay/clickhouse/clickhouse_endpoint.h"

#include "relay/base/log.h"
#include "relay/config/config_checks.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POOL_ROOM  16
#define NAMES_ROOM 8
#define IDLE_GUESS DURATION_S(2) // 18.16 keeps connections for 3 s; newer servers say what they do

struct clickhouse_endpoint {
    const struct relay_context *context;
    char *url;
    struct circuit_breaker *breaker;
    pthread_mutex_t lock;
    // under lock
    struct clickhouse_transport *idle[POOL_ROOM];
    size_t idle_count;
    int keep_alive_seconds;
    bool known, reported_down, reported;
    struct mono_time heard_at;  // how a request went, or of the claim to ask
    char names[NAMES_ROOM][64]; // that answers came under, the last ones
    size_t name_count, last_name;
    bool names_told;
    struct clickhouse_server server;
    struct clickhouse_result *settings;
};

// An endpoint that was away may come back as another version.
static void on_breaker(void *context, enum breaker_state from, enum breaker_state to)
{
    struct clickhouse_endpoint *endpoint = context;
    if (to == BREAKER_OPEN) {
        clickhouse_endpoint_forget(endpoint);
    }
    log_event(to == BREAKER_CLOSED ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING, "clickhouse.breaker", NULL,
        LOG_TEXT("url", endpoint->url), LOG_TEXT("state_before", breaker_state_name(from)),
        LOG_TEXT("state", breaker_state_name(to)));
}

static struct breaker_options options_of(const struct config_breaker *limits)
{
    return (struct breaker_options){.failures = limits->failures > 0 ? limits->failures : 5,
        .open = limits->open.ns > 0 ? limits->open : DURATION_S(30),
        .successes = limits->successes > 0 ? limits->successes : 2};
}

struct clickhouse_endpoint *clickhouse_endpoint_new(const struct relay_context *context, const char *url,
    struct relay_error *error)
{
    if (!config_check_url(url, error)) {
        error_prefix(error, "[clickhouse] url");
        return NULL;
    }
    struct clickhouse_endpoint *endpoint = calloc(1, sizeof(*endpoint));
    if (!endpoint) {
        error_no_memory(error, "preparing a ClickHouse endpoint");
        return NULL;
    }
    endpoint->context = context;
    endpoint->heard_at = clock_mono(context->clock);
    pthread_mutex_init(&endpoint->lock, NULL);
    endpoint->url = strdup(url);
    if (!endpoint->url) {
        error_no_memory(error, "preparing a ClickHouse endpoint");
        goto endpoint_held;
    }
    for (size_t length = strlen(endpoint->url); length > 0 && endpoint->url[length - 1] == '/'; length--) {
        endpoint->url[length - 1] = '\0';
    }
    struct breaker_options options = options_of(&context->config->breakers[CONFIG_DEPENDENCY_CLICKHOUSE]);
    struct clickhouse_text name = {0};
    if (!clickhouse_text_add(&name, "clickhouse %s", endpoint->url)) {
        error_no_memory(error, "preparing a ClickHouse endpoint");
        goto endpoint_held;
    }
    struct metrics *metrics = context->metrics;
    endpoint->breaker = breaker_new(options, context->clock,
        metrics ? metrics_series1(metrics, METRIC_BREAKER_STATE, name.at) : NULL,
        metrics ? metrics_series1(metrics, METRIC_BREAKER_TRIPS, name.at) : NULL, on_breaker, endpoint, error);
    clickhouse_text_finish(&name);
    if (!endpoint->breaker) {
        goto endpoint_held;
    }
    return endpoint;

endpoint_held:
    clickhouse_endpoint_free(endpoint);
    return NULL;
}

void clickhouse_endpoint_free(struct clickhouse_endpoint *endpoint)
{
    if (!endpoint) {
        return;
    }
    while (endpoint->idle_count > 0) {
        clickhouse_transport_free(endpoint->idle[--endpoint->idle_count]);
    }
    if (endpoint->context->board && endpoint->reported) {
        status_board_remove(endpoint->context->board, STATUS_CLICKHOUSE, endpoint->url);
    }
    breaker_free(endpoint->breaker);
    clickhouse_result_free(endpoint->settings);
    pthread_mutex_destroy(&endpoint->lock);
    free(endpoint->url);
    free(endpoint);
}

const char *clickhouse_endpoint_url(const struct clickhouse_endpoint *endpoint)
{
    return endpoint->url;
}

struct circuit_breaker *clickhouse_endpoint_breaker(struct clickhouse_endpoint *endpoint)
{
    return endpoint->breaker;
}

void clickhouse_endpoint_limit(struct clickhouse_endpoint *endpoint, const struct config_breaker *limits)
{
    breaker_set_options(endpoint->breaker, options_of(limits));
}

struct clickhouse_transport *clickhouse_endpoint_take(struct clickhouse_endpoint *endpoint, struct relay_error *error)
{
    struct clickhouse_transport *transport = NULL;
    pthread_mutex_lock(&endpoint->lock);
    if (endpoint->idle_count > 0) {
        transport = endpoint->idle[--endpoint->idle_count]; // the last used: its connection is the freshest
    }
    pthread_mutex_unlock(&endpoint->lock);
    return transport ? transport : clickhouse_transport_new(error);
}

void clickhouse_endpoint_give(struct clickhouse_endpoint *endpoint, struct clickhouse_transport *transport, bool keep)
{
    if (keep) {
        pthread_mutex_lock(&endpoint->lock);
        if (endpoint->idle_count < POOL_ROOM) {
            endpoint->idle[endpoint->idle_count++] = transport;
            transport = NULL;
        }
        pthread_mutex_unlock(&endpoint->lock);
    }
    clickhouse_transport_free(transport);
}

struct duration clickhouse_endpoint_idle_limit(struct clickhouse_endpoint *endpoint)
{
    pthread_mutex_lock(&endpoint->lock);
    int seconds = endpoint->keep_alive_seconds;
    pthread_mutex_unlock(&endpoint->lock);
    return seconds > 0 ? DURATION_S(seconds > 2 ? seconds - 1 : 1) : IDLE_GUESS;
}

// @locks lock held. true: a name that has answered before comes back after another one. A server that was replaced has
// another name from then on; only servers that share the url take turns.
static bool name_returns(struct clickhouse_endpoint *endpoint, const char *name)
{
    size_t count = endpoint->name_count < NAMES_ROOM ? endpoint->name_count : NAMES_ROOM, index = 0;
    if (count > 0 && strcmp(endpoint->names[endpoint->last_name], name) == 0) {
        return false;
    }
    while (index < count && strcmp(endpoint->names[index], name) != 0) {
        index++;
    }
    bool returns = index < count;
    if (!returns) {
        index = endpoint->name_count++ % NAMES_ROOM;
        snprintf(endpoint->names[index], sizeof(endpoint->names[index]), "%s", name);
    }
    endpoint->last_name = index;
    return returns;
}

void clickhouse_endpoint_heard(struct clickhouse_endpoint *endpoint, int keep_alive_seconds, const char *server_name)
{
    char former[sizeof(endpoint->names[0])];
    pthread_mutex_lock(&endpoint->lock);
    if (keep_alive_seconds > 0) {
        endpoint->keep_alive_seconds = keep_alive_seconds;
    }
    memcpy(former, endpoint->names[endpoint->last_name], sizeof(former));
    bool tell = server_name[0] != '\0' && !endpoint->names_told && name_returns(endpoint, server_name);
    endpoint->names_told = endpoint->names_told || tell;
    pthread_mutex_unlock(&endpoint->lock);
    if (tell) {
        log_event(LOG_LEVEL_WARNING, "clickhouse.several_servers",
            "several servers answer under one url, so what is asked after an INSERT in doubt may be asked of another "
            "one, and rows be doubled: give each replica a url of its own",
            LOG_TEXT("url", endpoint->url), LOG_TEXT("server", server_name), LOG_TEXT("and", former));
    }
}

void clickhouse_endpoint_report(struct clickhouse_endpoint *endpoint, const char *problem)
{
    bool down = problem != NULL;
    pthread_mutex_lock(&endpoint->lock);
    bool changed = !endpoint->reported || down != endpoint->reported_down;
    endpoint->reported = true;
    endpoint->reported_down = down;
    endpoint->heard_at = clock_mono(endpoint->context->clock);
    pthread_mutex_unlock(&endpoint->lock);
    if (endpoint->context->board && (changed || down)) {
        status_board_set(endpoint->context->board, STATUS_CLICKHOUSE, endpoint->url, down ? STATUS_DOWN : STATUS_OK,
            down ? problem : "");
    }
}

bool clickhouse_endpoint_reported_down(struct clickhouse_endpoint *endpoint)
{
    pthread_mutex_lock(&endpoint->lock);
    bool down = endpoint->reported_down;
    pthread_mutex_unlock(&endpoint->lock);
    return down;
}

bool clickhouse_endpoint_answers(struct clickhouse_endpoint *endpoint)
{
    pthread_mutex_lock(&endpoint->lock);
    bool answers = endpoint->reported && !endpoint->reported_down;
    pthread_mutex_unlock(&endpoint->lock);
    return answers;
}

bool clickhouse_endpoint_take_silence(struct clickhouse_endpoint *endpoint, struct duration silence)
{
    struct mono_time now = clock_mono(endpoint->context->clock);
    pthread_mutex_lock(&endpoint->lock);
    bool silent = mono_reached(now, mono_add(endpoint->heard_at, silence));
    if (silent) {
        endpoint->heard_at = now;
    }
    pthread_mutex_unlock(&endpoint->lock);
    return silent;
}

bool clickhouse_endpoint_server(struct clickhouse_endpoint *endpoint, struct clickhouse_server *server)
{
    pthread_mutex_lock(&endpoint->lock);
    bool known = endpoint->known;
    if (server) {
        *server = endpoint->server;
    }
    pthread_mutex_unlock(&endpoint->lock);
    return known;
}

// @locks lock held. The server sorted the names by their bytes. *value (may be NULL): where it was asked for, else "".
static bool known_under_lock(const struct clickhouse_endpoint *endpoint, const char *setting, const char **value)
{
    size_t low = 0, high = endpoint->settings ? clickhouse_result_rows(endpoint->settings) : 0;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const char *name = clickhouse_result_text(endpoint->settings, middle, 0, NULL);
        int order = strcmp(setting, name ? name : "");
        if (order == 0) {
            const char *text = clickhouse_result_text(endpoint->settings, middle, 1, NULL);
            if (value) {
                *value = text ? text : "";
            }
            return true;
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return false;
}

void clickhouse_endpoint_learn(struct clickhouse_endpoint *endpoint, const struct clickhouse_server *server,
    struct clickhouse_result *settings)
{
    pthread_mutex_lock(&endpoint->lock);
    struct clickhouse_result *before = endpoint->settings;
    const char *quorum = "";
    endpoint->server = *server;
    endpoint->settings = settings;
    endpoint->server.has_deduplication_token = known_under_lock(endpoint, "insert_deduplication_token", NULL);
    endpoint->server.has_quorum = known_under_lock(endpoint, "insert_quorum", &quorum) && quorum[0] != '\0' &&
        strcmp(quorum, "0") != 0;
    endpoint->known = true;
    pthread_mutex_unlock(&endpoint->lock);
    clickhouse_result_free(before);
}

void clickhouse_endpoint_learn_clock(struct clickhouse_endpoint *endpoint, struct duration ahead, struct duration doubt)
{
    pthread_mutex_lock(&endpoint->lock);
    endpoint->server.clock_ahead = ahead;
    endpoint->server.clock_doubt = doubt;
    pthread_mutex_unlock(&endpoint->lock);
}

void clickhouse_endpoint_forget(struct clickhouse_endpoint *endpoint)
{
    pthread_mutex_lock(&endpoint->lock);
    endpoint->known = false;
    pthread_mutex_unlock(&endpoint->lock);
}

bool clickhouse_endpoint_says_who(struct clickhouse_endpoint *endpoint)
{
    pthread_mutex_lock(&endpoint->lock);
    bool says = !endpoint->settings || endpoint->server.says_who;
    pthread_mutex_unlock(&endpoint->lock);
    return says;
}

bool clickhouse_endpoint_knows(struct clickhouse_endpoint *endpoint, const char *setting)
{
    pthread_mutex_lock(&endpoint->lock);
    bool known = known_under_lock(endpoint, setting, NULL);
    pthread_mutex_unlock(&endpoint->lock);
    return known;
}
