// SPDX-License-Identifier: Apache-2.0
//
// What the rest of the process learns of a pipe: the status board, the gauges, Kafka's circuit breaker.
#include "relay/publish/publish_board.h"

#include "relay/base/log.h"
#include "relay/publish/publish_lane.h"

#include <stdio.h>
#include <string.h>

// Only its owner counts what waits: of a process that owns the outbox no more, the figures would stay as they were.
static void forget_waiting(struct publish_pipe *pipe)
{
    metric_set(pipe->series.held, 0);
    metric_set(pipe->series.parked, 0);
    status_board_text(pipe->context->board, STATUS_PUBLISH, pipe->config->name, "held_aggregates", NULL);
    status_board_text(pipe->context->board, STATUS_PUBLISH, pipe->config->name, "parked_topics", NULL);
}

void publish_show_ownership(struct publish_pipe *pipe)
{
    metric_set(pipe->series.owned, pipe->owner.owned ? 1 : 0);
    if (!pipe->owner.owned) {
        forget_waiting(pipe);
    }
}

void publish_show(struct publish_pipe *pipe, enum status_level level, const char *role, const char *reason)
{
    const char *name = pipe->config->name;
    status_board_set(pipe->context->board, STATUS_PUBLISH, name, level, reason);
    status_board_text(pipe->context->board, STATUS_PUBLISH, name, "role", role);
    // Ready: it owns the outbox, and could once publish it, or waits to own it. A relay that has not reached PostgreSQL
    // or Kafka yet does neither.
    bool ready = level != STATUS_DOWN && strcmp(role, "none") != 0;
    status_board_set_ready(pipe->context->board, STATUS_PUBLISH, name, ready && (pipe->came_up || !pipe->owner.owned));
    publish_show_ownership(pipe);
}

void publish_show_standby(struct publish_pipe *pipe)
{
    const struct outbox_owner *owner = &pipe->owner;
    if (owner->stranger.lock == PG_LOCK_NONE) {
        publish_show(pipe, STATUS_OK, "standby", "");
        return;
    }
    // For a moment it may be somebody who tries the lock by hand.
    struct mono_time lasts = mono_add(owner->stranger_since, pipe->context->config->lease);
    publish_show(pipe, mono_reached(clock_mono(pipe->context->clock), lasts) ? STATUS_DOWN : STATUS_DEGRADED, "standby",
        owner->stranger.text);
}

const char *publish_role(const struct publish_pipe *pipe)
{
    return pipe->owner.owned ? "owner" : "none";
}

// Which server an error speaks of, for the board and the metrics. What a term finds wrong in the configuration is that
// no client can be made of [kafka], such as of a certificate's file that is not there.
bool publish_is_kafka(const struct relay_error *error)
{
    return error->server == RELAY_SERVER_KAFKA || error->code == RELAY_ERROR_CONFIG;
}

void publish_show_kafka(struct publish_pipe *pipe, enum status_level level, const char *reason)
{
    pipe->told_kafka = level != STATUS_OK;
    status_board_set(pipe->context->board, STATUS_KAFKA, "publish", level, reason);
}

// The servers as this stage sees them: error NULL, both answer.
void publish_show_servers(struct publish_pipe *pipe, const struct relay_error *error)
{
    struct status_board *board = pipe->context->board;
    pipe->unended = error != NULL && kafka_producer_unended(error);
    if (error == NULL) {
        publish_show_kafka(pipe, STATUS_OK, "");
        status_board_set(board, STATUS_POSTGRES, "publish", STATUS_OK, "");
    } else if (pipe->unended) { // that is an answer
        publish_show_kafka(pipe, STATUS_OK, "");
    } else if (error->code == RELAY_ERROR_POSTGRES_UNREACHABLE || error->code == RELAY_ERROR_KAFKA_UNREACHABLE) {
        enum status_level level = pipe->failures >= 3 ? STATUS_DOWN : STATUS_DEGRADED;
        if (publish_is_kafka(error)) {
            publish_show_kafka(pipe, level, error->text);
        } else {
            status_board_set(board, STATUS_POSTGRES, "publish", level, error->text);
        }
    }
}

// While a term waits for Kafka, which it does for half a minute, the board says why. After one that waited for the end
// of a transaction it goes on saying that: trouble with one broker, of which librdkafka tells each new producer, is no
// reason then.
static void tick_of_kafka(void *context)
{
    struct publish_pipe *pipe = context;
    publish_tick(pipe);
    char why[256];
    if (pipe->starting && !pipe->unended && kafka_producer_trouble(pipe->producer, why, sizeof(why))) {
        enum status_level level = pipe->failures >= 3 ? STATUS_DOWN : STATUS_DEGRADED;
        publish_show_kafka(pipe, level, why);
        publish_show(pipe, level, publish_role(pipe), why);
    }
}

struct kafka_tick publish_kafka_tick(struct publish_pipe *pipe)
{
    return (struct kafka_tick){tick_of_kafka, pipe};
}

void publish_show_waiting(struct publish_pipe *pipe)
{
    metric_set(pipe->series.held, (double)pipe->held);
    metric_set(pipe->series.parked, (double)pipe->parked);
    status_board_number(pipe->context->board, STATUS_PUBLISH, pipe->config->name, "held_aggregates",
        (double)pipe->held);
    status_board_number(pipe->context->board, STATUS_PUBLISH, pipe->config->name, "parked_topics",
        (double)pipe->parked);
    char reason[128 + sizeof(pipe->first_waiting)] = "";
    if (pipe->held + pipe->parked > 0) {
        snprintf(reason, sizeof(reason), "%lld aggregate%s held, %lld topic%s parked; the first: %s",
            (long long)pipe->held, pipe->held == 1 ? "" : "s", (long long)pipe->parked, pipe->parked == 1 ? "" : "s",
            pipe->first_waiting);
    }
    publish_show(pipe, reason[0] == '\0' ? STATUS_OK : STATUS_DEGRADED, "owner", reason);
}

void publish_show_trouble(struct publish_pipe *pipe, const struct relay_error *error)
{
    publish_show(pipe, STATUS_DEGRADED, "owner", error->text);
    pipe->troubled = true;
}

void publish_show_kept(struct publish_pipe *pipe)
{
    struct relay_error error;
    error_set(&error, RELAY_ERROR_POSTGRES_OPERATOR,
        "rows of %s are there and cannot be taken out: does a trigger (BEFORE %s) or a rule of yours keep them?",
        pipe->owner.table->name, pipe->config->disposition == CONFIG_DISPOSITION_MARK ? "UPDATE" : "DELETE");
    if (!pipe->troubled) {
        log_event(LOG_LEVEL_WARNING, "publish.rows_kept", "trying again", LOG_TEXT("outbox", pipe->config->name),
            LOG_ERROR(&error));
    }
    publish_show_trouble(pipe, &error);
}

void publish_show_well(struct publish_pipe *pipe)
{
    pipe->failures = 0;
    backoff_reset(&pipe->backoff);
    if (pipe->troubled) {
        pipe->troubled = false;
        publish_show_waiting(pipe);
    }
}

bool publish_ask_breaker(const struct publish_pipe *pipe, struct relay_error *error)
{
    return pipe->context->kafka_breaker == NULL ||
        breaker_check(pipe->context->kafka_breaker, RELAY_SERVER_KAFKA, "Kafka", error);
}

void publish_report_kafka(struct publish_pipe *pipe, const struct relay_error *error)
{
    struct circuit_breaker *breaker = pipe->context->kafka_breaker;
    if (breaker == NULL) {
        return;
    }
    if (error == NULL) {
        breaker_success(breaker);
    } else if (error->code == RELAY_ERROR_KAFKA_UNREACHABLE || error->code == RELAY_ERROR_KAFKA_UNKNOWN ||
        error->code == RELAY_ERROR_KAFKA_RETRIABLE) {
        breaker_failure(breaker, error->text);
    } else {
        breaker_cancel(breaker);
    }
}
