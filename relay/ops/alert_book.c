// SPDX-License-Identifier: Apache-2.0
#include "relay/ops/alert_book.h"

#include "relay/base/utf8.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RECENT        20
#define RETELL_WITHIN DURATION_S(300) // a change this young is told again by the replica that takes over

const char *alert_level_name(enum alert_level level)
{
    static const char *const names[] = {"OK", "WARNING", "CRITICAL"};
    return names[level];
}

bool alert_book_init(struct alert_book *book, const struct clock *clock, struct relay_error *error)
{
    *book = (struct alert_book){.clock = clock, .recent = json_array()};
    return book->recent != NULL || error_no_memory(error, "the alerts");
}

void alert_book_finish(struct alert_book *book)
{
    while (book->conditions != NULL) {
        struct alert_condition *next = book->conditions->next;
        free(book->conditions);
        book->conditions = next;
    }
    json_decref(book->recent);
    book->recent = NULL;
}

// FNV-1a, 64 bits.
static uint64_t hash_text(uint64_t hash, const char *text)
{
    for (; *text != '\0'; text++) {
        hash = (hash ^ (unsigned char)*text) * UINT64_C(1099511628211);
    }
    return hash;
}

static uint64_t hash_end(uint64_t hash) // of a part that another one follows: its NUL
{
    return hash * UINT64_C(1099511628211);
}

// Without a deployment's name it stays what it was before there was one: receivers may have kept it.
void alert_fingerprint(const struct alert_condition *condition, const char *deployment, char text[ALERT_FINGERPRINT])
{
    uint64_t hash = hash_end(hash_text(UINT64_C(14695981039346656037), condition->name));
    hash = hash_text(hash, condition->instance);
    if (deployment[0] != '\0') {
        hash = hash_text(hash_end(hash), deployment);
    }
    snprintf(text, ALERT_FINGERPRINT, "%016" PRIx64, hash);
}

static struct alert_condition *find(const struct alert_book *book, const char *name, const char *instance)
{
    for (struct alert_condition *at = book->conditions; at != NULL; at = at->next) {
        if (strcmp(at->name, name) == 0 && strcmp(at->instance, instance) == 0) {
            return at;
        }
    }
    return NULL;
}

static struct alert_condition *add(struct alert_book *book, const char *name, const char *instance)
{
    struct alert_condition *condition = book->count < ALERT_CONDITIONS_MAX ? calloc(1, sizeof(*condition)) : NULL;
    if (condition != NULL) {
        condition->name = name;
        snprintf(condition->instance, sizeof(condition->instance), "%s", instance);
        condition->next = book->conditions;
        book->conditions = condition;
        book->count++;
    }
    return condition;
}

bool alert_book_raise(struct alert_book *book, const char *name, const char *instance, enum alert_level level,
    const char *summary, double value, bool quiet)
{
    char clean[sizeof(((struct alert_condition *)0)->instance)];
    utf8_clean(clean, sizeof(clean), instance);
    struct alert_condition *condition = find(book, name, clean);
    if (condition == NULL && level == ALERT_OK) {
        return true; // nobody needs to hear that what was never wrong is right
    }
    if (condition == NULL && (condition = add(book, name, clean)) == NULL) {
        return false;
    }
    struct mono_time now = clock_mono(book->clock);
    for (int worse = (int)condition->level + 1; worse <= (int)level; worse++) {
        condition->at_least_since[worse] = now;
    }
    condition->level = level;
    condition->value = value;
    utf8_clean(condition->summary, sizeof(condition->summary), summary);
    bool young = condition->news > 0 && mono_since(now, condition->changed).ns < RETELL_WITHIN.ns;
    if (condition->quiet && !quiet && young) {
        condition->news++;
        condition->told = now;
    } else if (condition->quiet && !quiet) {
        condition->told = now; // goes on with the repetition, not with the state that was told long ago
    }
    condition->quiet = quiet;
    return true;
}

// The worst level that has lasted for `hold`.
static enum alert_level lasting(const struct alert_book *book, const struct alert_condition *condition,
    struct mono_time now)
{
    int level = (int)condition->level;
    while (level > (int)condition->announced && mono_since(now, condition->at_least_since[level]).ns < book->hold.ns) {
        level--;
    }
    return (enum alert_level)level;
}

static void remember(struct alert_book *book, const struct alert_condition *condition)
{
    char at[WALL_TIME_TEXT];
    wall_time_format(condition->changed_at, at);
    json_t *one = json_pack("{s:s, s:s, s:s, s:s, s:s}", "at", at, "name", condition->name, "instance",
        condition->instance, "level", alert_level_name(condition->announced), "summary", condition->summary);
    if (one != NULL && json_array_insert_new(book->recent, 0, one) == 0 && json_array_size(book->recent) > RECENT) {
        json_array_remove(book->recent, RECENT);
    }
}

static void move(struct alert_book *book, struct alert_condition *condition, enum alert_level to, struct mono_time now)
{
    condition->before = condition->announced;
    condition->announced = to;
    condition->changed = now;
    condition->changed_at = clock_wall(book->clock);
    if (condition->before == ALERT_OK) {
        condition->started_at = condition->changed_at;
    }
    remember(book, condition);
}

// What receivers know of a condition that others tell: as if we had told it, so that nothing is told twice later.
static void count_as_told(struct alert_condition *condition)
{
    for (size_t i = 0; i < ALERT_RECEIVERS; i++) {
        condition->receivers[i] = (struct alert_told){.news = condition->news};
        condition->receivers[i].open[condition->announced] = condition->announced != ALERT_OK;
    }
}

static struct mono_time earlier(struct mono_time a, struct mono_time b)
{
    return mono_before(a, b) ? a : b;
}

static struct mono_time next_due(const struct alert_book *book, const struct alert_condition *condition)
{
    struct mono_time due = {INT64_MAX};
    for (int level = (int)condition->announced + 1; level <= (int)condition->level; level++) {
        due = earlier(due, mono_add(condition->at_least_since[level], book->hold));
    }
    if (condition->announced != ALERT_OK && book->repeat.ns > 0) {
        due = earlier(due, mono_add(condition->told, book->repeat));
    }
    return due;
}

struct mono_time alert_book_evaluate(struct alert_book *book, alert_book_news *news, void *context)
{
    struct mono_time now = clock_mono(book->clock);
    struct mono_time due = {INT64_MAX};
    for (struct alert_condition *condition = book->conditions; condition != NULL; condition = condition->next) {
        enum alert_level level = lasting(book, condition, now);
        bool changed = level != condition->announced;
        bool again = !changed && condition->announced != ALERT_OK && book->repeat.ns > 0 &&
            mono_since(now, condition->told).ns >= book->repeat.ns;
        if (changed) {
            move(book, condition, level, now);
        }
        if (changed || again) {
            condition->told = now;
            condition->repeated = again;
            condition->news++;
            if (condition->quiet) {
                count_as_told(condition);
            } else {
                news(context, condition);
            }
        }
        due = earlier(due, next_due(book, condition));
    }
    return due;
}

static bool any_open(const struct alert_told *told)
{
    return told->open[ALERT_WARNING] || told->open[ALERT_CRITICAL];
}

struct mono_time alert_book_resend_at(const struct alert_condition *condition, size_t receiver, struct duration resend)
{
    if (resend.ns == 0 || condition->announced == ALERT_OK || condition->quiet) {
        return (struct mono_time){INT64_MAX};
    }
    return mono_add(condition->receivers[receiver].at, resend);
}

bool alert_book_due(const struct alert_book *book, struct alert_condition *condition, size_t receiver,
    struct duration resend)
{
    struct alert_told *told = &condition->receivers[receiver];
    if (condition->quiet) {
        return false;
    }
    if (told->news == condition->news) {
        return mono_reached(clock_mono(book->clock), alert_book_resend_at(condition, receiver, resend));
    }
    if (condition->announced == ALERT_OK && !any_open(told)) {
        told->news = condition->news;
        return false;
    }
    return true;
}

void alert_book_told(struct alert_book *book, struct alert_condition *condition, size_t receiver, uint64_t news,
    enum alert_level level, bool certain)
{
    struct alert_told *told = &condition->receivers[receiver];
    if (certain) {
        told->news = news > told->news ? news : told->news;
        told->at = clock_mono(book->clock);
        memset(told->open, 0, sizeof(told->open));
    }
    if (level != ALERT_OK) {
        told->open[level] = true;
    }
}

void alert_book_forget(struct alert_book *book, size_t receiver)
{
    for (struct alert_condition *condition = book->conditions; condition != NULL; condition = condition->next) {
        condition->receivers[receiver] = (struct alert_told){0};
    }
}
