// SPDX-License-Identifier: Apache-2.0
#include "relay/ops/health_conditions.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define START_LIMIT DURATION_S(30)  // a part that starts for longer is one that waits for somebody
#define QUIET_LIMIT DURATION_S(300) // for so long the word of another replica is enough

struct look {
    enum alert_level level;
    char why[900]; // an instance and its whole reason
};

// All instances of a dependency on the board; the first that is not ok says why.
static struct look look_at_board(const struct status_entry *entries, size_t count, enum status_check check)
{
    struct look look = {.level = ALERT_OK};
    size_t all = 0;
    size_t down = 0;
    for (size_t i = 0; i < count; i++) {
        if (entries[i].check != check) {
            continue;
        }
        all++;
        down += entries[i].level == STATUS_DOWN;
        if (entries[i].level == STATUS_DOWN && look.why[0] == '\0') {
            snprintf(look.why, sizeof(look.why), "%s%s%s", entries[i].instance,
                entries[i].instance[0] == '\0' ? "" : ": ",
                entries[i].reason[0] == '\0' ? "does not answer" : entries[i].reason);
        }
    }
    if (down > 0) {
        look.level = down == all ? ALERT_CRITICAL : ALERT_WARNING;
    }
    return look;
}

static void judge_dependency(struct health_conditions *conditions, const struct status_entry *entries, size_t count,
    enum status_check check, bool quiet)
{
    static const char *const names[] = {"postgres_down", "kafka_down", "clickhouse_down"};
    const struct relay_context *context = conditions->context;
    struct circuit_breaker *const breakers[] = {context->postgres_breaker, context->kafka_breaker, NULL};
    struct look look = look_at_board(entries, count, check);
    if (look.level != ALERT_CRITICAL && breakers[check] != NULL && breaker_state_of(breakers[check]) == BREAKER_OPEN) {
        look.level = ALERT_CRITICAL;
        if (look.why[0] == '\0') {
            struct relay_error why;
            breaker_refuse(breakers[check], RELAY_SERVER_NONE, status_check_name(check), &why);
            snprintf(look.why, sizeof(look.why), "%.*s", (int)sizeof(look.why) - 1, why.text);
        }
    }
    enum alert_level level = health_window_add(&conditions->dependencies[check], look.level);
    if (level == ALERT_OK) {
        snprintf(look.why, sizeof(look.why), "%s answers", status_check_name(check));
    } else if (look.why[0] == '\0') {
        snprintf(look.why, sizeof(look.why), "%s has not answered well yet", status_check_name(check));
    }
    alerts_raise(conditions->alerts, names[check], "", level, look.why, (double)level, quiet);
}

// Unknown is no news: a lag that was told is not over because Kafka does not answer.
static void judge_lag(struct health_conditions *conditions, const struct config_health *limits, int64_t lag)
{
    if (lag < 0) {
        return;
    }
    enum alert_level level = health_window_add(&conditions->lag, health_lag_level(limits, lag));
    char summary[128];
    snprintf(summary, sizeof(summary), "%" PRId64 " messages are behind the end of the partitions of this process",
        lag);
    alerts_raise(conditions->alerts, "consumer_lag", conditions->replica, level, summary, (double)lag, false);
}

// Of Kafka only what waits for somebody is a part's trouble: the rest passes, or is meant to be so.
static enum alert_level result_of(const struct status_entry *entry)
{
    if (entry->level == STATUS_OK || (entry->check == STATUS_KAFKA && !entry->waiting)) {
        return ALERT_OK;
    }
    return entry->level == STATUS_DOWN ? ALERT_CRITICAL : ALERT_WARNING;
}

static struct health_part *part_of(struct health_conditions *conditions, const struct status_entry *entry)
{
    for (size_t i = 0; i < conditions->part_count; i++) {
        struct health_part *part = &conditions->parts[i];
        if (part->check == entry->check && strcmp(part->instance, entry->instance) == 0) {
            return part;
        }
    }
    if (result_of(entry) == ALERT_OK || conditions->part_count == HEALTH_PARTS_MAX) {
        return NULL;
    }
    struct health_part *part = &conditions->parts[conditions->part_count++];
    *part = (struct health_part){.check = entry->check};
    memcpy(part->instance, entry->instance, sizeof(part->instance));
    return part;
}

static void raise_part(struct health_conditions *conditions, struct health_part *part, enum alert_level level,
    const char *why)
{
    char instance[256];
    snprintf(instance, sizeof(instance), "%s%s%s at %s", status_check_name(part->check),
        part->instance[0] == '\0' ? "" : " ", part->instance, conditions->replica);
    alerts_raise(conditions->alerts, "pipeline_degraded", instance, level, why, (double)level, false);
    part->raised = level;
}

static bool dependency_down(const struct health_conditions *conditions, enum status_check check)
{
    return health_window_level(&conditions->dependencies[check]) == ALERT_CRITICAL;
}

static bool is_part(const struct status_entry *entry)
{
    return entry->check == STATUS_PUBLISH || entry->check == STATUS_INSERT || entry->check == STATUS_KAFKA;
}

// Another alert tells why it is not ok.
static bool is_explained(const struct health_conditions *conditions, const struct status_entry *entry)
{
    if (entry->level == STATUS_OK) {
        return false;
    }
    if (entry->check == STATUS_KAFKA && entry->level == STATUS_DOWN) {
        return true; // kafka_down, of which it is a part
    }
    return dependency_down(conditions, STATUS_KAFKA) ||
        (entry->check == STATUS_PUBLISH && dependency_down(conditions, STATUS_POSTGRES)) ||
        (entry->check == STATUS_INSERT && dependency_down(conditions, STATUS_CLICKHOUSE));
}

// The replica that speaks for ClickHouse tells what it sees itself. One that alone does not reach it keeps its
// partitions, and its tables are not told while clickhouse_down explains them: nobody would hear that they stand.
static void judge_own_way(struct health_conditions *conditions, const struct status_entry *entries, size_t count,
    bool quiet)
{
    struct health_part *cut_off = &conditions->cut_off;
    struct mono_time now = clock_mono(conditions->context->clock);
    bool down = dependency_down(conditions, STATUS_CLICKHOUSE);
    if (!down || conditions->reached.ns == 0) {
        conditions->reached = now;
    }
    cut_off->check = STATUS_INSERT;
    if (!down && cut_off->raised != ALERT_OK) {
        raise_part(conditions, cut_off, ALERT_OK, "this process reaches ClickHouse again");
    }
    bool lasts = quiet && mono_since(now, conditions->reached).ns >= QUIET_LIMIT.ns;
    if (down && (lasts || cut_off->raised != ALERT_OK)) {
        struct look look = look_at_board(entries, count, STATUS_CLICKHOUSE);
        char why[sizeof(look.why) + 64];
        snprintf(why, sizeof(why), "this process does not reach ClickHouse%s%s", look.why[0] == '\0' ? "" : ": ",
            look.why);
        raise_part(conditions, cut_off, ALERT_CRITICAL, why);
    }
}

static bool just_starts(const struct health_conditions *conditions, const struct status_entry *entry)
{
    return entry->starting && mono_since(clock_mono(conditions->context->clock), entry->since).ns < START_LIMIT.ns;
}

static void judge_parts(struct health_conditions *conditions, const struct status_entry *entries, size_t count)
{
    for (size_t i = 0; i < conditions->part_count; i++) {
        conditions->parts[i].seen = false;
    }
    for (size_t i = 0; i < count; i++) {
        const struct status_entry *entry = &entries[i];
        if (!is_part(entry) || just_starts(conditions, entry)) {
            continue;
        }
        struct health_part *part = part_of(conditions, entry);
        if (part == NULL) {
            continue;
        }
        part->seen = true;
        if (is_explained(conditions, entry)) {
            continue;
        }
        enum alert_level level = health_window_add(&part->window, result_of(entry));
        raise_part(conditions, part, level, level == ALERT_OK ? "goes on" : entry->reason);
    }
    for (size_t i = 0; i < conditions->part_count;) {
        struct health_part *part = &conditions->parts[i];
        if (part->seen) {
            i++;
            continue;
        }
        if (part->raised != ALERT_OK) {
            raise_part(conditions, part, ALERT_OK, "is no longer with this process");
        }
        *part = conditions->parts[--conditions->part_count];
    }
}

void health_conditions_judge(struct health_conditions *conditions, const struct config_health *limits, int64_t lag,
    bool quiet)
{
    size_t count = 0;
    struct status_entry *entries = status_board_entries(conditions->context->board, &count);
    judge_dependency(conditions, entries, count, STATUS_POSTGRES, false);
    judge_dependency(conditions, entries, count, STATUS_KAFKA, quiet);
    judge_dependency(conditions, entries, count, STATUS_CLICKHOUSE, quiet);
    judge_lag(conditions, limits, lag);
    judge_own_way(conditions, entries, count, quiet);
    judge_parts(conditions, entries, count);
    free(entries);
}
