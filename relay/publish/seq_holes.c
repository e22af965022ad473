// SPDX-License-Identifier: Apache-2.0
//
// Who may fill a hole needs no list per hole. Each transaction carries the number of the first listing that it was seen
// in, and is dropped when a listing lacks it. A hole first covered by listing g can be filled by the transactions that
// were in listing g, which are those of today's with a number <= g: so it is over once the smallest number alive is
// above g. Ranges and what is known of each are two arrays, so that the ranges can be handed out as they are.
#include "relay/publish/seq_holes.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define UNLISTED  INT64_MAX // no listing has covered the hole yet; compares as the newest
#define LIMIT_MIN 16
#define PREPARED  UINT32_MAX // the backend of a prepared transaction

// --- seq_holders ---

struct holder {
    uint64_t id;
    int64_t since;
};

struct seq_holders {
    struct holder *holders, *spare; // sorted by id; `room` of each
    size_t count, room;
    int64_t listing; // of the last one
    int64_t oldest;  // smallest `since`; INT64_MAX: nobody
};

struct seq_holders *seq_holders_new(struct relay_error *error)
{
    struct seq_holders *holders = calloc(1, sizeof(*holders));
    if (!holders) {
        error_no_memory(error, "watching transactions");
        return NULL;
    }
    holders->oldest = INT64_MAX;
    return holders;
}

void seq_holders_free(struct seq_holders *holders)
{
    if (holders) {
        free(holders->holders);
        free(holders->spare);
        free(holders);
    }
}

static bool parse_u32(const char **at, uint32_t *value)
{
    const char *start = *at;
    uint64_t sum = 0;
    while (**at >= '0' && **at <= '9' && sum <= UINT32_MAX) {
        sum = sum * 10 + (uint64_t)(*(*at)++ - '0');
    }
    *value = (uint32_t)sum;
    return *at > start && sum <= UINT32_MAX;
}

bool seq_holder_parse(const char *text, uint64_t *holder, struct relay_error *error)
{
    uint32_t backend = PREPARED, number; // "-1/xid"
    const char *at = text;
    bool good = strncmp(at, "-1/", 3) == 0 ? (at += 2, true) : parse_u32(&at, &backend) && backend != PREPARED;
    if (!good || *at++ != '/' || !parse_u32(&at, &number) || *at != '\0') {
        return error_set(error, RELAY_ERROR_PROTOCOL, "'%.40s' is no virtualtransaction of pg_locks", text);
    }
    *holder = (uint64_t)backend << 32 | number;
    return true;
}

static int compare_holders(const void *a, const void *b)
{
    uint64_t left = ((const struct holder *)a)->id, right = ((const struct holder *)b)->id;
    return (left > right) - (left < right);
}

static bool reserve_holders(struct seq_holders *holders, size_t count, struct relay_error *error)
{
    if (count <= holders->room) {
        return true;
    }
    size_t room = count + count / 2 + 16;
    struct holder *current = reallocarray(holders->holders, room, sizeof(*current));
    if (!current) {
        return error_no_memory(error, "watching transactions");
    }
    holders->holders = current;
    struct holder *spare = reallocarray(holders->spare, room, sizeof(*spare));
    if (!spare) {
        return error_no_memory(error, "watching transactions");
    }
    holders->spare = spare;
    holders->room = room;
    return true;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

// A prepared transaction goes on under another name than it had before PREPARE, and before PostgreSQL 13.5 all of them
// are called "-1/0": only what vanished together with its coming can tell who it may have been.
static bool may_be_another(const struct holder *holder, int64_t listing)
{
    return holder->id >> 32 == PREPARED && (holder->since == listing || (uint32_t)holder->id == 0);
}

bool seq_holders_listed(struct seq_holders *holders, const uint64_t *list, size_t count, struct relay_error *error)
{
    if (!reserve_holders(holders, count, error)) {
        return false;
    }
    struct holder *now = holders->spare;
    holders->listing++;
    for (size_t i = 0; i < count; i++) {
        now[i] = (struct holder){.id = list[i], .since = holders->listing};
    }
    if (count > 1) {
        qsort(now, count, sizeof(*now), compare_holders);
    }
    size_t kept = 0, old = 0;
    int64_t vanished = INT64_MAX; // the smallest `since` of those that are no longer there
    for (size_t i = 0; i < count; i++) {
        if (kept > 0 && now[kept - 1].id == now[i].id) {
            continue;
        }
        for (; old < holders->count && holders->holders[old].id < now[i].id; old++) {
            vanished = smaller(vanished, holders->holders[old].since);
        }
        bool known = old < holders->count && holders->holders[old].id == now[i].id;
        now[kept++] = known ? holders->holders[old++] : now[i];
    }
    for (; old < holders->count; old++) {
        vanished = smaller(vanished, holders->holders[old].since);
    }
    holders->oldest = INT64_MAX;
    for (size_t i = 0; i < kept; i++) {
        if (may_be_another(&now[i], holders->listing)) {
            now[i].since = smaller(now[i].since, vanished);
        }
        holders->oldest = smaller(holders->oldest, now[i].since);
    }
    holders->spare = holders->holders;
    holders->holders = now;
    holders->count = kept;
    return true;
}

size_t seq_holders_count(const struct seq_holders *holders)
{
    return holders->count;
}

// --- seq_holes ---

struct hole_state {
    int64_t listing;       // the first one that covered it, or UNLISTED
    struct mono_time seen; // when the watermark passed it; ranges ascend by it as well
    bool over;             // nobody is left who could fill it
    bool last_asked;       // and a look-up was asked for since
};

struct seq_holes {
    int64_t watermark;
    size_t limit, count;
    struct seq_range *ranges, *spare_ranges; // ascending, never overlapping; `limit` of each
    struct hole_state *states, *spare_states;
    uint64_t *distances; // scratch of coarsen()
};

struct seq_holes *seq_holes_new(int64_t watermark, size_t limit, struct relay_error *error)
{
    struct seq_holes *holes = calloc(1, sizeof(*holes));
    if (holes) {
        holes->watermark = watermark;
        holes->limit = limit < LIMIT_MIN ? LIMIT_MIN : limit;
        holes->ranges = calloc(holes->limit, sizeof(*holes->ranges));
        holes->spare_ranges = calloc(holes->limit, sizeof(*holes->spare_ranges));
        holes->states = calloc(holes->limit, sizeof(*holes->states));
        holes->spare_states = calloc(holes->limit, sizeof(*holes->spare_states));
        holes->distances = calloc(holes->limit, sizeof(*holes->distances));
    }
    if (!holes || !holes->ranges || !holes->spare_ranges || !holes->states || !holes->spare_states ||
        !holes->distances) {
        seq_holes_free(holes);
        error_no_memory(error, "watching sequence numbers");
        return NULL;
    }
    return holes;
}

void seq_holes_free(struct seq_holes *holes)
{
    if (holes) {
        free(holes->ranges);
        free(holes->spare_ranges);
        free(holes->states);
        free(holes->spare_states);
        free(holes->distances);
        free(holes);
    }
}

void seq_holes_copy(struct seq_holes *to, const struct seq_holes *from)
{
    assert(to->limit == from->limit);
    to->watermark = from->watermark;
    to->count = from->count;
    memcpy(to->ranges, from->ranges, from->count * sizeof(*to->ranges));
    memcpy(to->states, from->states, from->count * sizeof(*to->states));
}

void seq_holes_reset(struct seq_holes *holes, int64_t watermark)
{
    holes->watermark = watermark;
    holes->count = 0;
}

int64_t seq_holes_watermark(const struct seq_holes *holes)
{
    return holes->watermark;
}

size_t seq_holes_ranges(const struct seq_holes *holes)
{
    return holes->count;
}

int64_t seq_holes_settled(const struct seq_holes *holes)
{
    if (holes->count == 0) {
        return holes->watermark;
    }
    return holes->ranges[0].first == INT64_MIN ? INT64_MIN : holes->ranges[0].first - 1;
}

struct duration seq_holes_age(const struct seq_holes *holes, struct mono_time now)
{
    return holes->count == 0 ? DURATION_NS(0) : mono_since(now, holes->states[0].seen);
}

bool seq_holes_covers(const struct seq_holes *holes, int64_t seq)
{
    size_t low = 0, high = holes->count; // the first range that does not end below it
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (holes->ranges[middle].last < seq) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < holes->count && holes->ranges[low].first <= seq;
}

static int compare_distances(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

static uint64_t distance_after(const struct seq_holes *holes, size_t i)
{
    return (uint64_t)holes->ranges[i + 1].first - (uint64_t)holes->ranges[i].last;
}

// Merges the nearest neighbours until a quarter of the room is free, so that it runs once in limit/4 holes. A merged
// hole is as young as the younger of the two: it is forgotten later than it might be, never earlier. It has been there
// since the older one was seen.
static void coarsen(struct seq_holes *holes)
{
    size_t pairs = holes->count - 1, merges = holes->count - holes->limit / 4 * 3;
    for (size_t i = 0; i < pairs; i++) {
        holes->distances[i] = distance_after(holes, i);
    }
    qsort(holes->distances, pairs, sizeof(*holes->distances), compare_distances);
    uint64_t widest = holes->distances[merges - 1];
    size_t ties = 0;
    for (size_t i = 0; i < merges; i++) {
        ties += holes->distances[i] == widest;
    }
    size_t kept = 0;
    for (size_t i = 1; i < holes->count; i++) {
        uint64_t distance = (uint64_t)holes->ranges[i].first - (uint64_t)holes->ranges[kept].last;
        bool merge = distance < widest || (distance == widest && ties > 0);
        if (!merge) {
            holes->ranges[++kept] = holes->ranges[i];
            holes->states[kept] = holes->states[i];
            continue;
        }
        ties -= distance == widest;
        struct hole_state *state = &holes->states[kept], other = holes->states[i];
        holes->ranges[kept].last = holes->ranges[i].last;
        state->listing = other.listing > state->listing ? other.listing : state->listing;
        state->over = state->over && other.over;
        state->last_asked = state->last_asked && other.last_asked;
    }
    holes->count = kept + 1;
}

static void add_hole(struct seq_holes *holes, int64_t first, int64_t last, struct mono_time now)
{
    if (holes->count == holes->limit) {
        coarsen(holes);
    }
    holes->ranges[holes->count] = (struct seq_range){first, last};
    holes->states[holes->count++] = (struct hole_state){.listing = UNLISTED, .seen = now};
}

void seq_holes_saw(struct seq_holes *holes, const int64_t *seqs, size_t count, struct mono_time now)
{
    for (size_t i = 0; i < count; i++) {
        if (seqs[i] <= holes->watermark) {
            continue; // a double, in a table without a unique index
        }
        if (seqs[i] - 1 > holes->watermark) {
            add_hole(holes, holes->watermark + 1, seqs[i] - 1, now);
        }
        holes->watermark = seqs[i];
    }
}

bool seq_holes_wants_listing(const struct seq_holes *holes)
{
    for (size_t i = 0; i < holes->count; i++) {
        if (!holes->states[i].over) {
            return true;
        }
    }
    return false;
}

void seq_holes_listed(struct seq_holes *holes, const struct seq_holders *holders)
{
    for (size_t i = 0; i < holes->count; i++) {
        struct hole_state *state = &holes->states[i];
        if (state->listing == UNLISTED) {
            state->listing = holders->listing;
        }
        state->over = state->over || state->listing < holders->oldest;
    }
}

size_t seq_holes_ask(struct seq_holes *holes, const struct seq_range **ranges)
{
    for (size_t i = 0; i < holes->count; i++) {
        holes->states[i].last_asked = holes->states[i].over;
    }
    *ranges = holes->ranges;
    return holes->count;
}

// One range being taken apart: what stays of it goes to the spare arrays.
struct rebuild {
    struct seq_holes *holes;
    size_t count, to_come; // written; ranges not yet looked at
};

static void keep_range(struct rebuild *rebuild, int64_t first, int64_t last, struct hole_state state)
{
    state.last_asked = false;
    rebuild->holes->spare_ranges[rebuild->count] = (struct seq_range){first, last};
    rebuild->holes->spare_states[rebuild->count++] = state;
}

// Takes the found numbers out of one range. Where there is no room to split it in two, the number stays covered.
static void take_out(struct rebuild *rebuild, struct seq_range range, struct hole_state state, const int64_t *seqs,
    size_t count)
{
    bool gone = false; // nothing left of it
    for (size_t i = 0; i < count && !gone; i++) {
        bool room = rebuild->count + 1 + rebuild->to_come < rebuild->holes->limit;
        if (seqs[i] < range.first || (seqs[i] > range.first && seqs[i] < range.last && !room)) {
            continue; // a double; or it stays covered
        }
        if (seqs[i] > range.first && seqs[i] < range.last) {
            keep_range(rebuild, range.first, seqs[i] - 1, state);
            range.first = seqs[i] + 1;
        } else if (seqs[i] == range.first && seqs[i] < range.last) {
            range.first++;
        } else if (seqs[i] == range.last && seqs[i] > range.first) {
            range.last--;
        } else {
            gone = true;
        }
    }
    if (!gone) {
        keep_range(rebuild, range.first, range.last, state);
    }
}

void seq_holes_looked_up(struct seq_holes *holes, const int64_t *seqs, size_t count, int64_t complete)
{
    struct rebuild rebuild = {.holes = holes, .to_come = holes->count};
    size_t next = 0;
    for (size_t i = 0; i < holes->count; i++) {
        struct seq_range range = holes->ranges[i];
        struct hole_state state = holes->states[i];
        rebuild.to_come--;
        if (state.last_asked && range.first <= complete) {
            if (range.last <= complete) {
                continue; // its last look-up is done
            }
            range.first = complete + 1;
        }
        while (next < count && seqs[next] < range.first) {
            next++;
        }
        size_t from = next;
        while (next < count && seqs[next] <= range.last) {
            next++;
        }
        take_out(&rebuild, range, state, seqs + from, next - from);
    }
    struct seq_range *ranges = holes->ranges;
    struct hole_state *states = holes->states;
    holes->ranges = holes->spare_ranges;
    holes->states = holes->spare_states;
    holes->spare_ranges = ranges;
    holes->spare_states = states;
    holes->count = rebuild.count;
}
