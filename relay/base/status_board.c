// SPDX-License-Identifier: Apache-2.0
//
// One list of instances under one lock. Levels of the checks and of the whole are kept up to date whenever an instance
// changes its own, so that each has a `since` of its own and reading them costs nothing. Heartbeats are atomics in a
// list that only grows; a slot whose loop has ended is given to the next loop.
#include "relay/base/status_board.h"

#include "relay/base/utf8.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_BYTES   128
#define REASON_MAX_BYTES 768 // an error's whole text: it may end in the statement to go on with
#define TEXT_MAX_BYTES   768 // the message of an outbox's health ends in one, too

struct figure {
    struct figure *next;
    char name[64];
    bool is_text;
    double number;
    char text[TEXT_MAX_BYTES];
};

// What was said of the state when it was pinned last.
enum pin { PIN_PLAIN, PIN_STARTING, PIN_WAITING };

struct instance {
    struct instance *next;
    enum status_check check;
    char name[NAME_MAX_BYTES];
    enum status_level level;
    char reason[REASON_MAX_BYTES];
    struct wall_time since;
    struct mono_time changed; // the same moment, by a clock that nobody sets
    enum pin pin;
    bool pinned; // has a state: figures or readiness alone do not make one
    enum { READY_UNSAID, READY_NO, READY_YES } ready;
    struct figure *figures;
};

struct heartbeat {
    struct heartbeat *next;
    const struct clock *clock;
    const char *name;
    int64_t max_silence_ns;
    _Atomic int64_t last_ns;
    atomic_bool ended;
};

struct level_since {
    enum status_level level;
    struct wall_time since;
};

struct status_board {
    const struct clock *clock;
    pthread_mutex_t lock;
    // under the lock
    struct instance *instances; // in the order in which they came
    struct heartbeat *heartbeats;
    struct level_since checks[STATUS_CHECKS];
    struct level_since whole;
};

const char *status_check_name(enum status_check check)
{
    static const char *const names[STATUS_CHECKS] = {
        [STATUS_POSTGRES] = "postgres",
        [STATUS_KAFKA] = "kafka",
        [STATUS_CLICKHOUSE] = "clickhouse",
        [STATUS_OUTBOX] = "outbox",
        [STATUS_PUBLISH] = "publish",
        [STATUS_INSERT] = "insert",
    };
    return names[check];
}

const char *status_level_name(enum status_level level)
{
    static const char *const names[] = {[STATUS_OK] = "ok", [STATUS_DEGRADED] = "degraded", [STATUS_DOWN] = "down"};
    return names[level];
}

struct status_board *status_board_new(const struct clock *clock, struct relay_error *error)
{
    struct status_board *board = calloc(1, sizeof(*board));
    if (board == NULL) {
        error_no_memory(error, "status board");
        return NULL;
    }
    board->clock = clock;
    pthread_mutex_init(&board->lock, NULL);
    struct wall_time now = clock_wall(clock);
    for (int check = 0; check < STATUS_CHECKS; check++) {
        board->checks[check] = (struct level_since){STATUS_OK, now};
    }
    board->whole = (struct level_since){STATUS_DEGRADED, now}; // no stage yet
    return board;
}

static void free_instance(struct instance *instance)
{
    while (instance->figures != NULL) {
        struct figure *next = instance->figures->next;
        free(instance->figures);
        instance->figures = next;
    }
    free(instance);
}

void status_board_free(struct status_board *board)
{
    if (board == NULL) {
        return;
    }
    while (board->instances != NULL) {
        struct instance *next = board->instances->next;
        free_instance(board->instances);
        board->instances = next;
    }
    while (board->heartbeats != NULL) {
        struct heartbeat *next = board->heartbeats->next;
        free(board->heartbeats);
        board->heartbeats = next;
    }
    pthread_mutex_destroy(&board->lock);
    free(board);
}

// From here to the public functions: under the lock.

// Where the instance is, or the end of the list.
static struct instance **place_of(struct status_board *board, enum status_check check, const char *name)
{
    char clean[NAME_MAX_BYTES];
    utf8_clean(clean, sizeof(clean), name);
    struct instance **at = &board->instances;
    while (*at != NULL && ((*at)->check != check || strcmp((*at)->name, clean) != 0)) {
        at = &(*at)->next;
    }
    return at;
}

// NULL: out of memory; the state is then not shown, which is the best that can be done.
static struct instance *find_or_make(struct status_board *board, enum status_check check, const char *name)
{
    struct instance **at = place_of(board, check, name);
    if (*at == NULL) {
        struct instance *instance = calloc(1, sizeof(*instance));
        if (instance == NULL) {
            return NULL;
        }
        instance->check = check;
        utf8_clean(instance->name, sizeof(instance->name), name);
        instance->since = clock_wall(board->clock);
        instance->changed = clock_mono(board->clock);
        *at = instance;
    }
    return *at;
}

static enum status_level judge_check(const struct status_board *board, enum status_check check, bool *present)
{
    size_t down = 0;
    size_t degraded = 0;
    size_t all = 0;
    for (const struct instance *at = board->instances; at != NULL; at = at->next) {
        if (at->check == check && at->pinned) {
            all++;
            down += at->level == STATUS_DOWN;
            degraded += at->level == STATUS_DEGRADED;
        }
    }
    *present = all > 0;
    if (all > 0 && down == all) {
        return STATUS_DOWN;
    }
    return down + degraded > 0 ? STATUS_DEGRADED : STATUS_OK;
}

static void change(struct level_since *held, enum status_level level, struct wall_time now)
{
    if (held->level != level) {
        held->level = level;
        held->since = now;
    }
}

static void judge(struct status_board *board)
{
    struct wall_time now = clock_wall(board->clock);
    bool present[STATUS_CHECKS];
    bool all_ok = true;
    for (int check = 0; check < STATUS_CHECKS; check++) {
        enum status_level level = judge_check(board, check, &present[check]);
        change(&board->checks[check], level, now);
        all_ok = all_ok && level == STATUS_OK;
    }
    const struct level_since *is = board->checks;
    bool kafka = is[STATUS_KAFKA].level != STATUS_DOWN;
    bool publishes = present[STATUS_PUBLISH] && kafka && is[STATUS_PUBLISH].level != STATUS_DOWN &&
        is[STATUS_POSTGRES].level != STATUS_DOWN;
    bool inserts = present[STATUS_INSERT] && kafka && is[STATUS_INSERT].level != STATUS_DOWN &&
        is[STATUS_CLICKHOUSE].level != STATUS_DOWN;
    bool any_stage = present[STATUS_PUBLISH] || present[STATUS_INSERT];
    enum status_level whole = STATUS_OK;
    if (any_stage && !publishes && !inserts) {
        whole = STATUS_DOWN;
    } else if (!any_stage || !all_ok) {
        whole = STATUS_DEGRADED;
    }
    change(&board->whole, whole, now);
}

static struct figure *figure_of(struct instance *instance, const char *name)
{
    struct figure **at = &instance->figures;
    char clean[sizeof((*at)->name)];
    utf8_clean(clean, sizeof(clean), name);
    while (*at != NULL && strcmp((*at)->name, clean) != 0) {
        at = &(*at)->next;
    }
    if (*at == NULL) {
        struct figure *figure = calloc(1, sizeof(*figure));
        if (figure == NULL) {
            return NULL;
        }
        memcpy(figure->name, clean, sizeof(clean));
        *at = figure;
    }
    return *at;
}

static void drop_figure(struct instance *instance, const char *name)
{
    for (struct figure **at = &instance->figures; *at != NULL; at = &(*at)->next) {
        if (strcmp((*at)->name, name) == 0) {
            struct figure *gone = *at;
            *at = gone->next;
            free(gone);
            return;
        }
    }
}

// Public functions: they take the lock.

static void set(struct status_board *board, enum status_check check, const char *name, enum status_level level,
    const char *reason, enum pin pin)
{
    pthread_mutex_lock(&board->lock);
    struct instance *instance = find_or_make(board, check, name);
    if (instance != NULL) {
        utf8_clean(instance->reason, sizeof(instance->reason), reason);
        instance->pin = pin;
        bool changed = !instance->pinned || instance->level != level;
        if (changed) {
            instance->pinned = true;
            instance->level = level;
            instance->since = clock_wall(board->clock);
            instance->changed = clock_mono(board->clock);
            judge(board);
        }
    }
    pthread_mutex_unlock(&board->lock);
}

void status_board_set(struct status_board *board, enum status_check check, const char *name, enum status_level level,
    const char *reason)
{
    set(board, check, name, level, reason, PIN_PLAIN);
}

void status_board_set_starting(struct status_board *board, enum status_check check, const char *name,
    const char *reason)
{
    set(board, check, name, STATUS_DEGRADED, reason, PIN_STARTING);
}

void status_board_set_waiting(struct status_board *board, enum status_check check, const char *name, const char *reason)
{
    set(board, check, name, STATUS_DEGRADED, reason, PIN_WAITING);
}

void status_board_number(struct status_board *board, enum status_check check, const char *name, const char *figure_name,
    double value)
{
    pthread_mutex_lock(&board->lock);
    struct instance *instance = find_or_make(board, check, name);
    struct figure *figure = instance == NULL ? NULL : figure_of(instance, figure_name);
    if (figure != NULL) {
        figure->is_text = false;
        figure->number = value;
    }
    pthread_mutex_unlock(&board->lock);
}

void status_board_text(struct status_board *board, enum status_check check, const char *name, const char *figure_name,
    const char *text)
{
    pthread_mutex_lock(&board->lock);
    struct instance *instance = find_or_make(board, check, name);
    if (instance != NULL && text == NULL) {
        drop_figure(instance, figure_name);
    } else if (instance != NULL) {
        struct figure *figure = figure_of(instance, figure_name);
        if (figure != NULL) {
            figure->is_text = true;
            utf8_clean(figure->text, sizeof(figure->text), text);
        }
    }
    pthread_mutex_unlock(&board->lock);
}

void status_board_remove(struct status_board *board, enum status_check check, const char *name)
{
    pthread_mutex_lock(&board->lock);
    struct instance **at = place_of(board, check, name);
    if (*at != NULL) {
        struct instance *gone = *at;
        *at = gone->next;
        free_instance(gone);
        judge(board);
    }
    pthread_mutex_unlock(&board->lock);
}

void status_board_set_ready(struct status_board *board, enum status_check stage, const char *name, bool ready)
{
    pthread_mutex_lock(&board->lock);
    struct instance *instance = find_or_make(board, stage, name);
    if (instance != NULL) {
        instance->ready = ready ? READY_YES : READY_NO;
    }
    pthread_mutex_unlock(&board->lock);
}

bool status_board_ready_why(struct status_board *board, char *why, size_t room)
{
    bool said = false;
    const struct instance *waiting = NULL;
    pthread_mutex_lock(&board->lock);
    for (const struct instance *at = board->instances; at != NULL && waiting == NULL; at = at->next) {
        said = said || at->ready != READY_UNSAID;
        waiting = at->ready == READY_NO ? at : NULL;
    }
    if (why != NULL && room > 0) {
        if (waiting != NULL) {
            snprintf(why, room, "%s%s%s%s%s", status_check_name(waiting->check), waiting->name[0] == '\0' ? "" : " ",
                waiting->name, waiting->reason[0] == '\0' ? " is not ready" : ": ", waiting->reason);
        } else {
            snprintf(why, room, "%s", said ? "" : "starting: no stage runs yet");
        }
    }
    pthread_mutex_unlock(&board->lock);
    return said && waiting == NULL;
}

bool status_board_is_ready(struct status_board *board)
{
    return status_board_ready_why(board, NULL, 0);
}

struct heartbeat *status_board_heartbeat(struct status_board *board, const char *name, struct duration max_silence,
    struct relay_error *error)
{
    pthread_mutex_lock(&board->lock);
    struct heartbeat *heartbeat = board->heartbeats;
    while (heartbeat != NULL && !atomic_load(&heartbeat->ended)) {
        heartbeat = heartbeat->next;
    }
    if (heartbeat == NULL) {
        heartbeat = calloc(1, sizeof(*heartbeat));
        if (heartbeat != NULL) {
            heartbeat->next = board->heartbeats;
            board->heartbeats = heartbeat;
        }
    }
    if (heartbeat != NULL) {
        heartbeat->clock = board->clock;
        heartbeat->name = name;
        heartbeat->max_silence_ns = max_silence.ns;
        atomic_store(&heartbeat->last_ns, clock_mono(board->clock).ns);
        atomic_store(&heartbeat->ended, false);
    } else {
        error_no_memory(error, "heartbeat");
    }
    pthread_mutex_unlock(&board->lock);
    return heartbeat;
}

void heartbeat_beat(struct heartbeat *heartbeat)
{
    atomic_store_explicit(&heartbeat->last_ns, clock_mono(heartbeat->clock).ns, memory_order_relaxed);
}

void heartbeat_end(struct heartbeat *heartbeat)
{
    if (heartbeat != NULL) {
        atomic_store(&heartbeat->ended, true);
    }
}

bool status_board_live(struct status_board *board, char *silent, size_t room)
{
    int64_t now = clock_mono(board->clock).ns;
    const char *name = NULL;
    pthread_mutex_lock(&board->lock);
    for (const struct heartbeat *at = board->heartbeats; at != NULL && name == NULL; at = at->next) {
        if (!atomic_load(&at->ended) && now - atomic_load(&at->last_ns) > at->max_silence_ns) {
            name = at->name;
        }
    }
    pthread_mutex_unlock(&board->lock);
    if (silent != NULL && room > 0) {
        snprintf(silent, room, "%s", name == NULL ? "" : name);
    }
    return name == NULL;
}

struct status_entry *status_board_entries(struct status_board *board, size_t *count)
{
    *count = 0;
    pthread_mutex_lock(&board->lock);
    size_t all = 0;
    for (const struct instance *at = board->instances; at != NULL; at = at->next) {
        all += at->pinned;
    }
    struct status_entry *entries = all == 0 ? NULL : calloc(all, sizeof(*entries));
    for (const struct instance *at = board->instances; entries != NULL && at != NULL; at = at->next) {
        if (at->pinned) {
            struct status_entry *entry = &entries[(*count)++];
            entry->check = at->check;
            entry->level = at->level;
            entry->since = at->changed;
            entry->starting = at->pin == PIN_STARTING;
            entry->waiting = at->pin == PIN_WAITING;
            memcpy(entry->instance, at->name, sizeof(entry->instance));
            memcpy(entry->reason, at->reason, sizeof(entry->reason));
        }
    }
    pthread_mutex_unlock(&board->lock);
    return entries;
}

// From here on: the JSON. Members that could not be made are missing; only the root decides between JSON and NULL.

static void put_state(json_t *object, enum status_level level, const char *reason, struct wall_time since)
{
    char text[WALL_TIME_TEXT];
    wall_time_format(since, text);
    json_object_set_new(object, "status", json_string(status_level_name(level)));
    json_object_set_new(object, "reason", json_string(reason));
    json_object_set_new(object, "since", json_string(text));
}

static json_t *figures_json(const struct instance *instance)
{
    json_t *object = json_object();
    for (const struct figure *at = instance == NULL ? NULL : instance->figures; at != NULL; at = at->next) {
        json_t *value;
        if (at->is_text) {
            value = json_string(at->text);
        } else if (at->number >= -9e15 && at->number <= 9e15 && at->number == (double)(int64_t)at->number) {
            value = json_integer((json_int_t)at->number);
        } else {
            value = json_real(at->number); // NULL for NAN and infinities: the figure is left out
        }
        json_object_set_new(object, at->name, value);
    }
    return object;
}

// Under the lock. The reason of the worst instance, with its name in front.
static void check_reason(const struct status_board *board, enum status_check check, char *reason, size_t room)
{
    const struct instance *worst = NULL;
    bool present = false;
    for (const struct instance *at = board->instances; at != NULL; at = at->next) {
        if (at->check == check && at->pinned) {
            present = true;
            if (worst == NULL || at->level > worst->level) {
                worst = at;
            }
        }
    }
    if (!present) {
        snprintf(reason, room, "not in use by this process");
    } else if (worst->name[0] == '\0' || worst->reason[0] == '\0') {
        snprintf(reason, room, "%s", worst->reason);
    } else {
        snprintf(reason, room, "%s: %s", worst->name, worst->reason);
    }
}

// Under the lock.
static json_t *check_json(const struct status_board *board, enum status_check check)
{
    json_t *object = json_object();
    json_t *instances = NULL;
    const struct instance *own = NULL;
    char reason[NAME_MAX_BYTES + REASON_MAX_BYTES + 2];
    check_reason(board, check, reason, sizeof(reason));
    put_state(object, board->checks[check].level, reason, board->checks[check].since);
    for (const struct instance *at = board->instances; at != NULL; at = at->next) {
        if (at->check != check) {
            continue;
        }
        if (at->name[0] == '\0') {
            own = at;
            continue;
        }
        if (instances == NULL) {
            instances = json_object();
        }
        json_t *one = json_object();
        put_state(one, at->level, at->reason, at->since);
        json_object_set_new(one, "figures", figures_json(at));
        json_object_set_new(instances, at->name, one);
    }
    json_object_set_new(object, "figures", figures_json(own));
    if (instances != NULL) {
        json_object_set_new(object, "instances", instances);
    }
    return object;
}

// Under the lock. The first of the worst checks, with its name in front.
static void whole_reason(const struct status_board *board, char *reason, size_t room)
{
    int worst = -1;
    for (int check = 0; check < STATUS_CHECKS; check++) {
        if (board->checks[check].level != STATUS_OK &&
            (worst < 0 || board->checks[check].level > board->checks[worst].level)) {
            worst = check;
        }
    }
    if (worst >= 0) {
        char one[NAME_MAX_BYTES + REASON_MAX_BYTES + 2];
        check_reason(board, worst, one, sizeof(one));
        snprintf(reason, room, "%s: %s", status_check_name(worst), one);
    } else {
        snprintf(reason, room, "%s", board->whole.level == STATUS_OK ? "" : "starting: no stage runs yet");
    }
}

json_t *status_board_json(struct status_board *board)
{
    json_t *root = json_object();
    json_t *checks = json_object();
    if (root == NULL || checks == NULL) {
        json_decref(root);
        json_decref(checks);
        return NULL;
    }
    pthread_mutex_lock(&board->lock);
    char reason[NAME_MAX_BYTES + REASON_MAX_BYTES + 32];
    whole_reason(board, reason, sizeof(reason));
    put_state(root, board->whole.level, reason, board->whole.since);
    for (int check = 0; check < STATUS_CHECKS; check++) {
        json_object_set_new(checks, status_check_name(check), check_json(board, check));
    }
    pthread_mutex_unlock(&board->lock);
    json_object_set_new(root, "checks", checks);
    return root;
}
