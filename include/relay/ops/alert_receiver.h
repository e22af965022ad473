// SPDX-License-Identifier: Apache-2.0
//
// One place that alerts are sent to over HTTP: its URL (a secret: only the host is ever named), its breaker, its
// backoff, and at most one request under way, which the caller's curl multi handle drives. TLS is verified, redirects
// are not followed, the proxy is what the environment says (a webhook is often outside). One thread at a time.
#ifndef RELAY_OPS_ALERT_RECEIVER_H
#define RELAY_OPS_ALERT_RECEIVER_H

#include "relay/base/tls_trust.h"
#include "relay/config/context.h"
#include "relay/ops/alert_message.h"

#include <curl/curl.h>

struct alert_receiver;

enum alert_outcome {
    ALERT_SENT,     // 2xx
    ALERT_REFUSED,  // another answer that will not change by itself: a wrong URL, a redirect
    ALERT_NOT_SENT, // nobody was reached
    ALERT_UNCLEAR,  // cut, timed out, 5xx, 429: it may have been taken
};

// url and the names of files are copied. Errors: CONFIG (no http or https URL), NO_MEMORY.
struct alert_receiver *alert_receiver_new(const struct relay_context *context, enum alert_receiver_kind kind,
    const char *url, const struct tls_files *tls, struct relay_error *error);
// Accepts NULL. A request under way is dropped: multi must be the one that it was started with. With a libcurl before
// 7.87 that waits until its name is resolved, so no lock may be held.
void alert_receiver_free(struct alert_receiver *receiver, CURLM *multi);
// No receiver of this kind is configured any more: its breaker leaves the metrics.
void alert_receiver_gone(const struct relay_context *context, enum alert_receiver_kind kind);

// New limits of its breaker (reload); any thread, as long as the receiver lives.
void alert_receiver_limit(struct alert_receiver *receiver, const struct config_breaker *limits);

bool alert_receiver_busy(const struct alert_receiver *receiver);
// When a request may be started: after the backoff and when the breaker lets a probe pass.
struct mono_time alert_receiver_next(const struct alert_receiver *receiver);
// Starts a POST of the body, which it takes over in any case; alerts: how many are in it. false: not now (breaker,
// memory).
bool alert_receiver_start(struct alert_receiver *receiver, CURLM *multi, char *body, size_t alerts);
// The easy handle of the request, to find whose a finished transfer is.
bool alert_receiver_is(const struct alert_receiver *receiver, const CURL *easy);
// The request has ended with this code: reports to the breaker, the metrics and the log.
enum alert_outcome alert_receiver_finish(struct alert_receiver *receiver, CURLM *multi, CURLcode code);

#endif
