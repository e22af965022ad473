// SPDX-License-Identifier: Apache-2.0
//
// Happy path: the JSON is posted, the receiver says 2xx; what it says beyond that is thrown away.
//
// Failures: not reached, cut, slower than REQUEST_TIME, 5xx, 408, 429: backoff from one second to a minute, counted by
// the breaker. Another answer is a mistake in the configuration (or at the receiver's): told as a warning, tried again
// every few minutes, and no reason to open the breaker. The caller keeps what has to be said; here nothing is queued.
#include "relay/ops/alert_receiver.h"

#include "relay/base/backoff.h"
#include "relay/base/log.h"
#include "relay/base/http_request.h"
#include "relay/base/tls_trust.h"
#include "relay/base/version.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_MS 5000L
#define REQUEST_MS 10000L

struct alert_receiver {
    const struct relay_context *context;
    enum alert_receiver_kind kind;
    char *url, *host;
    CURL *easy;
    struct curl_slist *headers;
    struct circuit_breaker *breaker;
    struct metric_series *sent[ALERT_UNCLEAR + 1]; // by outcome
    struct backoff failed, refused;
    struct mono_time not_before;
    char detail[CURL_ERROR_SIZE]; // what libcurl says beside its code
    char *body;                   // of the request under way
    size_t alerts;
};

static char *host_of(CURLU *parts)
{
    char *host = NULL;
    char *copy = NULL;
    if (curl_url_get(parts, CURLUPART_HOST, &host, 0) == CURLUE_OK) {
        copy = strdup(host);
        curl_free(host);
    }
    return copy;
}

static bool take_url(struct alert_receiver *receiver, const char *url, struct relay_error *error)
{
    static const char path[] = "/api/v2/alerts";
    const char *name = alert_receiver_name(receiver->kind);
    CURLU *parts = curl_url();
    bool done = false;
    if (parts == NULL || (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0) ||
        curl_url_set(parts, CURLUPART_URL, url, 0) != CURLUE_OK) {
        error_set(error, RELAY_ERROR_CONFIG, "[alert] %s_url is no http:// or https:// URL", name);
        goto parts_held;
    }
    size_t length = strlen(url);
    while (receiver->kind == ALERT_ALERTMANAGER && length > 0 && url[length - 1] == '/') {
        length--;
    }
    bool whole = receiver->kind != ALERT_ALERTMANAGER ||
        (length >= sizeof(path) - 1 && strncmp(url + length - (sizeof(path) - 1), path, sizeof(path) - 1) == 0);
    receiver->url = malloc(length + sizeof(path));
    receiver->host = host_of(parts);
    if (receiver->url == NULL || receiver->host == NULL) {
        error_no_memory(error, "an alert receiver");
        goto parts_held;
    }
    snprintf(receiver->url, length + sizeof(path), "%.*s%s", (int)length, url, whole ? "" : path);
    done = true;

parts_held:
    curl_url_cleanup(parts);
    return done;
}

#define DEPENDENCY 40
static void name_dependency(enum alert_receiver_kind kind, char dependency[DEPENDENCY])
{
    snprintf(dependency, DEPENDENCY, "alert_%s", alert_receiver_name(kind));
}

void alert_receiver_gone(const struct relay_context *context, enum alert_receiver_kind kind)
{
    char dependency[DEPENDENCY];
    name_dependency(kind, dependency);
    metrics_retire(context->metrics, metrics_series1(context->metrics, METRIC_BREAKER_STATE, dependency));
}

static bool make_breaker(struct alert_receiver *receiver, struct relay_error *error)
{
    const struct relay_context *context = receiver->context;
    const struct config_breaker *limits = &context->config->breakers[CONFIG_DEPENDENCY_ALERT];
    char dependency[DEPENDENCY];
    name_dependency(receiver->kind, dependency);
    struct breaker_options options = {.failures = limits->failures,
        .open = limits->open,
        .successes = limits->successes};
    receiver->breaker = breaker_new(options, context->clock,
        metrics_series1(context->metrics, METRIC_BREAKER_STATE, dependency),
        metrics_series1(context->metrics, METRIC_BREAKER_TRIPS, dependency), NULL, NULL, error);
    return receiver->breaker != NULL;
}

// All are there before the first attempt: an increase is counted from a series' first value.
static void find_series(struct alert_receiver *receiver)
{
    static const char *const results[] =
        {[ALERT_SENT] = "ok", [ALERT_REFUSED] = "refused", [ALERT_NOT_SENT] = "failed", [ALERT_UNCLEAR] = "failed"};
    for (int outcome = ALERT_SENT; outcome <= ALERT_UNCLEAR; outcome++) {
        receiver->sent[outcome] = metrics_series2(receiver->context->metrics, METRIC_ALERTS_SENT,
            alert_receiver_name(receiver->kind), results[outcome]);
    }
}

static size_t throw_away(char *bytes, size_t size, size_t count, void *context)
{
    (void)bytes;
    (void)context;
    return size * count;
}

static bool make_handle(struct alert_receiver *receiver, const struct tls_files *tls, struct relay_error *error)
{
    CURL *easy = receiver->easy = curl_easy_init();
    receiver->headers = curl_slist_append(NULL, "Content-Type: application/json");
    if (easy == NULL || receiver->headers == NULL || curl_slist_append(receiver->headers, "Expect:") == NULL) {
        return error_no_memory(error, "an alert receiver");
    }
    curl_easy_setopt(easy, CURLOPT_URL, receiver->url);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, receiver->headers);
    char agent[128];
    snprintf(agent, sizeof(agent), "outbox-relay/%s", relay_version());
    curl_easy_setopt(easy, CURLOPT_USERAGENT, agent);   // copied
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L); // what was said to one host is not repeated to another
    http_request_common(easy);
    tls_trust(easy, tls);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, receiver->detail);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, REQUEST_MS);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, throw_away);
    return true;
}

struct alert_receiver *alert_receiver_new(const struct relay_context *context, enum alert_receiver_kind kind,
    const char *url, const struct tls_files *tls, struct relay_error *error)
{
    struct alert_receiver *receiver = calloc(1, sizeof(*receiver));
    if (receiver == NULL) {
        error_no_memory(error, "an alert receiver");
        return NULL;
    }
    receiver->context = context;
    receiver->kind = kind;
    receiver->not_before = clock_mono(context->clock);
    backoff_init(&receiver->failed, DURATION_S(1), DURATION_S(60));
    backoff_init(&receiver->refused, DURATION_S(30), DURATION_S(300));
    if (!take_url(receiver, url, error) || !make_handle(receiver, tls, error) || !make_breaker(receiver, error)) {
        alert_receiver_free(receiver, NULL);
        return NULL;
    }
    find_series(receiver);
    return receiver;
}

void alert_receiver_free(struct alert_receiver *receiver, CURLM *multi)
{
    if (receiver == NULL) {
        return;
    }
    if (receiver->body != NULL) {
        curl_multi_remove_handle(multi, receiver->easy);
        breaker_cancel(receiver->breaker);
        free(receiver->body);
    }
    curl_easy_cleanup(receiver->easy);
    curl_slist_free_all(receiver->headers);
    if (receiver->breaker != NULL) {
        breaker_free(receiver->breaker);
    }
    if (receiver->url != NULL) {
        explicit_bzero(receiver->url, strlen(receiver->url));
    }
    free(receiver->url);
    free(receiver->host);
    free(receiver);
}

void alert_receiver_limit(struct alert_receiver *receiver, const struct config_breaker *limits)
{
    breaker_set_options(receiver->breaker,
        (struct breaker_options){.failures = limits->failures, .open = limits->open, .successes = limits->successes});
}

bool alert_receiver_busy(const struct alert_receiver *receiver)
{
    return receiver->body != NULL;
}

bool alert_receiver_is(const struct alert_receiver *receiver, const CURL *easy)
{
    return receiver->easy == easy;
}

struct mono_time alert_receiver_next(const struct alert_receiver *receiver)
{
    struct mono_time probe = breaker_next_probe(receiver->breaker);
    return mono_before(probe, receiver->not_before) ? receiver->not_before : probe;
}

bool alert_receiver_start(struct alert_receiver *receiver, CURLM *multi, char *body, size_t alerts)
{
    if (body == NULL || !breaker_allow(receiver->breaker)) {
        free(body);
        receiver->not_before = mono_add(clock_mono(receiver->context->clock), DURATION_S(1));
        return false;
    }
    curl_easy_setopt(receiver->easy, CURLOPT_POST, 1L);
    curl_easy_setopt(receiver->easy, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(receiver->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(body));
    if (curl_multi_add_handle(multi, receiver->easy) != CURLM_OK) {
        breaker_cancel(receiver->breaker);
        free(body);
        receiver->not_before = mono_add(clock_mono(receiver->context->clock), DURATION_S(1));
        return false;
    }
    receiver->body = body;
    receiver->alerts = alerts;
    return true;
}

static enum alert_outcome judge(CURLcode code, long status, long sent)
{
    if (code != CURLE_OK) {
        return sent > 0 ? ALERT_UNCLEAR : ALERT_NOT_SENT;
    }
    if (status >= 200 && status < 300) {
        return ALERT_SENT;
    }
    return status >= 500 || status == 408 || status == 429 ? ALERT_UNCLEAR : ALERT_REFUSED;
}

static void complain(const struct alert_receiver *receiver, CURLcode code, long status)
{
    char why[192];
    if (code != CURLE_OK) {
        snprintf(why, sizeof(why), "%s%s", curl_easy_strerror(code),
            tls_trust_advice(receiver->easy, code, receiver->detail));
    } else if (status >= 300 && status < 400) {
        snprintf(why, sizeof(why), "HTTP status %ld: redirects are not followed, give the address that it leads to",
            status);
    } else {
        snprintf(why, sizeof(why), "HTTP status %ld", status);
    }
    log_event(LOG_LEVEL_WARNING, "alerts.not_sent",
        "a receiver does not take alerts; what is still true is sent when it does",
        LOG_TEXT("target", alert_receiver_name(receiver->kind)), LOG_TEXT("host", receiver->host),
        LOG_TEXT("error", why));
}

enum alert_outcome alert_receiver_finish(struct alert_receiver *receiver, CURLM *multi, CURLcode code)
{
    long status = 0;
    long sent = 0;
    curl_easy_getinfo(receiver->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(receiver->easy, CURLINFO_REQUEST_SIZE, &sent);
    curl_multi_remove_handle(multi, receiver->easy);
    free(receiver->body);
    receiver->body = NULL;

    enum alert_outcome outcome = judge(code, status, sent);
    struct mono_time now = clock_mono(receiver->context->clock);
    if (outcome == ALERT_SENT) {
        backoff_reset(&receiver->failed);
        backoff_reset(&receiver->refused);
        receiver->not_before = now;
    } else if (outcome == ALERT_REFUSED) {
        receiver->not_before = mono_add(now, backoff_next(&receiver->refused));
    } else {
        receiver->not_before = mono_add(now, backoff_next(&receiver->failed));
    }
    if (outcome == ALERT_SENT || outcome == ALERT_REFUSED) {
        breaker_success(receiver->breaker); // it answers, whatever it says
    } else {
        breaker_failure(receiver->breaker, NULL);
    }
    if (outcome != ALERT_SENT) {
        complain(receiver, code, status);
    }
    metric_add(receiver->sent[outcome], receiver->alerts);
    return outcome;
}
