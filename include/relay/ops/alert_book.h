// SPDX-License-Identifier: Apache-2.0
//
// What is true now, and what of it has to be told: the pure part of the alerts, without threads, sockets or locks
// (alerts.c locks around it). A condition gets worse after the worse level has lasted `hold`; it gets better at once.
// Each time it changes, and again every `repeat` while it is not OK, its `news` number grows; each receiver remembers
// the number that it was told last, so only the latest state of a condition is ever waiting, however long the receiver
// was away. A quiet condition is another replica's to tell: it is followed, and counts as told. If it stops being quiet
// soon after it changed, it is told again, because the other replica may have died before it could.
#ifndef RELAY_OPS_ALERT_BOOK_H
#define RELAY_OPS_ALERT_BOOK_H

#include "relay/base/clock.h"
#include "relay/ops/alerts.h"

#include <jansson.h>

#define ALERT_RECEIVERS      3 // webhook, Slack, Alertmanager
#define ALERT_CONDITIONS_MAX 1000
#define ALERT_FINGERPRINT    17

// What one receiver knows of one condition.
struct alert_told {
    uint64_t news;                 // the number that it was told last
    bool open[ALERT_CRITICAL + 1]; // levels that it was, or may have been, told and that are not yet told as over
    struct mono_time at;
};

struct alert_condition {
    struct alert_condition *next;
    const char *name;
    char instance[256]; // whole, since it is the identity: "insert PART at HOST:PORT" with the longest names
    char summary[1024]; // the latest, whole: the reason of a part may end in the statement to go on with
    double value;
    enum alert_level level;                              // the latest, raised
    struct mono_time at_least_since[ALERT_CRITICAL + 1]; // since when it is this bad or worse; meaningful up to `level`
    bool quiet;
    enum alert_level announced, before; // after `hold`; and what it was before
    struct wall_time started_at;        // when it left OK
    struct wall_time changed_at;        // of the last change
    struct mono_time changed, told;     // last change; last news
    bool repeated;                      // the last news was a repetition
    uint64_t news;
    struct alert_told receivers[ALERT_RECEIVERS];
};

struct alert_book {
    const struct clock *clock;
    struct duration hold, repeat;
    struct alert_condition *conditions;
    size_t count;
    json_t *recent; // array, newest first
};

bool alert_book_init(struct alert_book *book, const struct clock *clock, struct relay_error *error); // NO_MEMORY
void alert_book_finish(struct alert_book *book);
// false: no room for one more condition (ALERT_CONDITIONS_MAX, or memory).
bool alert_book_raise(struct alert_book *book, const char *name, const char *instance, enum alert_level level,
    const char *summary, double value, bool quiet);
// Lets time act. Calls back for each condition that has news which is ours to tell. Returns when it wants to be called
// next.
typedef void alert_book_news(void *context, const struct alert_condition *condition);
struct mono_time alert_book_evaluate(struct alert_book *book, alert_book_news *news, void *context);

// Is there something that the receiver must be told? What was never told as firing needs no word when it is over: that
// is marked as told here. resend: a receiver that forgets is told again after this long (0: it does not forget).
bool alert_book_due(const struct alert_book *book, struct alert_condition *condition, size_t receiver,
    struct duration resend);
// When a resend is due; far away where none is.
struct mono_time alert_book_resend_at(const struct alert_condition *condition, size_t receiver, struct duration resend);
// The receiver was told this news at this level; certain: it said so, else it may or may not have heard.
void alert_book_told(struct alert_book *book, struct alert_condition *condition, size_t receiver, uint64_t news,
    enum alert_level level, bool certain);
// The receiver was replaced by another, which knows nothing.
void alert_book_forget(struct alert_book *book, size_t receiver);

// Hex, the same on every replica. deployment: "" where it has no name.
void alert_fingerprint(const struct alert_condition *condition, const char *deployment, char text[ALERT_FINGERPRINT]);

#endif
