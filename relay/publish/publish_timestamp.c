// SPDX-License-Identifier: Apache-2.0
//
// A broker that refuses a record's timestamp compares it with its own clock, within limits that the topic has
// (message.timestamp.after.max.ms, .before.max.ms). So nearly always the row is right, and something else is wrong that
// passes: PostgreSQL's clock or a broker's, or a limit that is shorter than an outage was. Dead letters would then be
// made of all rows, one after the other, and later rows overtake them. Instead the topic is parked: its rows wait in
// their order.
//
// Nothing but a record tells whether the cause is gone. The row that was refused stays a suspect, so it is sent alone,
// and without transactions nothing else is published again and again. One such topic is tried at a time: of two that
// are tried together, one that is still refused would undo the other, too.
#include "relay/publish/publish_timestamp.h"

#include "relay/publish/publish_judge.h"
#include "relay/publish/publish_lane.h"
#include "relay/publish/publish_reason.h"
#include "relay/publish/publish_waiting.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RETRY DURATION_S(10)
// No outbox is older: 2000-01-01T00:00:00Z.
#define OLDEST_MS INT64_C(946684800000)
// Time zones that were mixed up, and most clocks that are wrong, make less.
#define AHEAD_MS INT64_C(86400000)

static struct untimely_topic *find(const struct publish_pipe *pipe, const char *topic)
{
    for (size_t i = 0; i < pipe->untimely_count; i++) {
        if (strcmp(pipe->untimely[i].name, topic) == 0) {
            return &pipe->untimely[i];
        }
    }
    return NULL;
}

static bool note(struct publish_pipe *pipe, const char *topic, struct relay_error *error)
{
    struct untimely_topic *known = find(pipe, topic);
    if (known == NULL) {
        struct untimely_topic *more = realloc(pipe->untimely, (pipe->untimely_count + 1) * sizeof(*more));
        if (more == NULL) {
            return error_no_memory(error, "the name of a topic");
        }
        pipe->untimely = more;
        known = &more[pipe->untimely_count++];
        snprintf(known->name, sizeof(known->name), "%s", topic);
    }
    known->refused_at = clock_mono(pipe->context->clock);
    return true;
}

void publish_timestamp_finish(struct publish_pipe *pipe)
{
    free(pipe->untimely);
    pipe->untimely = NULL;
    pipe->untimely_count = 0;
}

size_t publish_timestamp_due(const struct publish_pipe *pipe, char **names, size_t count)
{
    const struct untimely_topic *longest = NULL;
    char *turn = NULL;
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        const struct untimely_topic *topic = find(pipe, names[i]);
        if (topic == NULL) {
            names[kept++] = names[i];
        } else if (publish_due(pipe, topic->refused_at, RETRY) &&
            (longest == NULL || mono_before(topic->refused_at, longest->refused_at))) {
            longest = topic;
            turn = names[i];
        }
    }
    if (turn != NULL) {
        names[kept++] = turn;
    }
    return kept;
}

static bool ask_time_of_postgres(struct publish_pipe *pipe, const struct publish_lane *lane, int64_t *now_ms,
    struct relay_error *error)
{
    PGresult *result = pg_query(publish_connection(pipe, lane),
        "SELECT (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) * 1000)::pg_catalog.int8", NULL, 0, false,
        pg_deadline(pipe->context), error);
    if (result == NULL) {
        return false;
    }
    *now_ms = pg_cell_int64(result, 0, 0);
    PQclear(result);
    return true;
}

// Whether nobody's clock can have shown this time when the row was written.
static bool is_absurd(struct publish_pipe *pipe, const struct publish_lane *lane, int64_t at_ms, int64_t now_ms,
    bool *absurd, struct relay_error *error)
{
    *absurd = at_ms < OLDEST_MS;
    if (*absurd || at_ms - now_ms <= AHEAD_MS) {
        return true;
    }
    int64_t theirs_ms; // it may be ours that is wrong, and the broker's
    if (!ask_time_of_postgres(pipe, lane, &theirs_ms, error)) {
        return false;
    }
    *absurd = at_ms - theirs_ms > AHEAD_MS;
    return true;
}

bool publish_timestamp_judge(struct publish_pipe *pipe, const struct publish_lane *lane, struct relay_error *error)
{
    const struct outbox_row *row = &lane->batch->rows[0];
    const struct routed_event *event = &lane->batch->events[0];
    int64_t now_ms = clock_wall(pipe->context->clock).us / 1000;
    int64_t at_ms = event->timestamp_ms != 0 ? event->timestamp_ms : now_ms; // 0: the time of publishing
    bool absurd;
    if (!is_absurd(pipe, lane, at_ms, now_ms, &absurd, error)) {
        return false;
    }
    int64_t ahead = (at_ms - now_ms) / 1000;
    struct relay_error why;
    error_set_detail(&why, RELAY_ERROR_KAFKA_OPERATOR, RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP,
        "topic %s refuses the timestamp of row %lld, %lld s %s this machine's clock: %s (INVALID_TIMESTAMP)",
        event->topic, (long long)row->seq, (long long)(ahead < 0 ? -ahead : ahead), ahead < 0 ? "behind" : "ahead of",
        absurd ? "created_at is before the year 2000, or more than a day ahead of the clocks here and of PostgreSQL"
               : "compare it with the clocks of PostgreSQL, this machine and the brokers, and with the topic's "
                 "message.timestamp.before.max.ms and .after.max.ms");
    if (absurd) {
        return publish_judge_poison(pipe, lane, row->seq, publish_reason_name(PUBLISH_REASON_REFUSED), why.text, error);
    }
    bool told = find(pipe, event->topic) != NULL && publish_is_parked(pipe, event->topic);
    return note(pipe, event->topic, error) && publish_park(pipe, row, event->topic, &why, told, error);
}
