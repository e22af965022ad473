// SPDX-License-Identifier: Apache-2.0
#include "relay/publish/publish_verdicts.h"

#include "relay/base/fnv.h"

#include <stdlib.h>
#include <string.h>

void publish_verdicts_finish(struct publish_verdicts *verdicts)
{
    free(verdicts->items);
    free(verdicts->table);
    free(verdicts->suspects);
    *verdicts = (struct publish_verdicts){0};
}

void publish_verdict_type(struct publish_verdict *verdict, struct text_view type)
{
    verdict->type_length = type.length < sizeof(verdict->type) ? type.length : sizeof(verdict->type);
    memcpy(verdict->type, type.length > 0 ? type.at : "", verdict->type_length);
}

// Where an item may be found: its index and 1, 0: nothing. Entries of what an item no longer is stay until the table is
// made anew, and match nothing.
static size_t slot_of(const struct publish_verdicts *verdicts, uint32_t hash, size_t tried)
{
    return (hash + tried) & (verdicts->slots - 1);
}

static uint32_t hash_of_seq(int64_t seq)
{
    return fnv_bytes(FNV_START, &seq, sizeof(seq));
}

static bool parks(const struct publish_verdict *item, const char *topic)
{
    return item->action == VERDICT_PARK && strcmp(item->topic, topic) == 0;
}

static void enter(struct publish_verdicts *verdicts, uint32_t hash, size_t item)
{
    size_t tried = 0;
    while (verdicts->table[slot_of(verdicts, hash, tried)] != 0) {
        tried++;
    }
    verdicts->table[slot_of(verdicts, hash, tried)] = item + 1;
    verdicts->used++;
}

static void enter_item(struct publish_verdicts *verdicts, size_t item)
{
    const struct publish_verdict *verdict = &verdicts->items[item];
    enter(verdicts, hash_of_seq(verdict->seq), item);
    if (verdict->action == VERDICT_PARK) {
        enter(verdicts, fnv_text(FNV_START, verdict->topic), item);
    }
}

static void enter_all(struct publish_verdicts *verdicts)
{
    if (verdicts->slots > 0) {
        memset(verdicts->table, 0, verdicts->slots * sizeof(*verdicts->table));
    }
    verdicts->used = 0;
    for (size_t i = 0; i < verdicts->count; i++) {
        enter_item(verdicts, i);
    }
}

// Room for two entries more.
static bool make_room(struct publish_verdicts *verdicts, struct relay_error *error)
{
    if ((verdicts->used + 2) * 2 <= verdicts->slots) {
        return true;
    }
    size_t slots = 64;
    while (slots < (verdicts->count + 1) * 8) {
        slots *= 2;
    }
    if (slots > verdicts->slots) {
        size_t *table = malloc(slots * sizeof(*table));
        if (table == NULL) {
            return error_no_memory(error, "a verdict on a row");
        }
        free(verdicts->table);
        verdicts->table = table;
        verdicts->slots = slots;
    }
    enter_all(verdicts);
    return true;
}

static struct publish_verdict *find_row(const struct publish_verdicts *verdicts, int64_t seq)
{
    size_t tried = 0, at;
    uint32_t hash = hash_of_seq(seq);
    while (verdicts->slots > 0 && (at = verdicts->table[slot_of(verdicts, hash, tried)]) != 0) {
        if (verdicts->items[at - 1].seq == seq) {
            return &verdicts->items[at - 1];
        }
        tried++;
    }
    return NULL;
}

static struct publish_verdict *find_topic(const struct publish_verdicts *verdicts, const char *topic)
{
    size_t tried = 0, at;
    uint32_t hash = fnv_text(FNV_START, topic);
    while (verdicts->slots > 0 && (at = verdicts->table[slot_of(verdicts, hash, tried)]) != 0) {
        if (parks(&verdicts->items[at - 1], topic)) {
            return &verdicts->items[at - 1];
        }
        tried++;
    }
    return NULL;
}

static struct publish_verdict *find_alike(const struct publish_verdicts *verdicts,
    const struct publish_verdict *verdict)
{
    struct publish_verdict *row = find_row(verdicts, verdict->seq),
                           *topic = verdict->action == VERDICT_PARK ? find_topic(verdicts, verdict->topic) : NULL;
    return row == NULL || (topic != NULL && topic < row) ? topic : row;
}

void publish_verdicts_clear(struct publish_verdicts *verdicts)
{
    verdicts->count = 0;
    enter_all(verdicts);
}

void publish_verdicts_clear_rows(struct publish_verdicts *verdicts)
{
    size_t kept = 0;
    for (size_t i = 0; i < verdicts->count; i++) {
        if (verdicts->items[i].action == VERDICT_PARK) {
            verdicts->items[kept++] = verdicts->items[i];
        }
    }
    verdicts->count = kept;
    enter_all(verdicts);
}

bool publish_verdicts_add(struct publish_verdicts *verdicts, const struct publish_verdict *verdict,
    struct relay_error *error)
{
    if (!make_room(verdicts, error)) {
        return false;
    }
    struct publish_verdict *alike = find_alike(verdicts, verdict);
    if (alike != NULL) {
        int64_t seq = alike->seq < verdict->seq ? alike->seq : verdict->seq;
        bool same = alike->seq == seq && verdict->action == VERDICT_PARK && parks(alike, verdict->topic);
        *alike = *verdict;
        alike->seq = seq;
        if (!same) {
            enter_item(verdicts, (size_t)(alike - verdicts->items));
        }
        return true;
    }
    if (verdicts->count == verdicts->capacity) {
        size_t capacity = verdicts->capacity * 2 + 8;
        struct publish_verdict *items = realloc(verdicts->items, capacity * sizeof(*items));
        if (items == NULL) {
            return error_no_memory(error, "a verdict on a row");
        }
        verdicts->items = items;
        verdicts->capacity = capacity;
    }
    verdicts->items[verdicts->count++] = *verdict;
    enter_item(verdicts, verdicts->count - 1);
    return true;
}

const struct publish_verdict *publish_verdicts_parking(const struct publish_verdicts *verdicts, const char *topic)
{
    return find_topic(verdicts, topic);
}

// Index of the first suspect that is not below seq.
static size_t position(const struct publish_verdicts *verdicts, int64_t seq)
{
    size_t low = 0, high = verdicts->suspect_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (verdicts->suspects[middle] < seq) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

bool publish_suspects_has(const struct publish_verdicts *verdicts, int64_t seq)
{
    size_t at = position(verdicts, seq);
    return at < verdicts->suspect_count && verdicts->suspects[at] == seq;
}

bool publish_suspects_add(struct publish_verdicts *verdicts, int64_t seq, struct relay_error *error)
{
    if (publish_suspects_has(verdicts, seq)) {
        return true;
    }
    if (verdicts->suspect_count == verdicts->suspect_capacity) {
        size_t capacity = verdicts->suspect_capacity * 2 + 16;
        int64_t *suspects = realloc(verdicts->suspects, capacity * sizeof(*suspects));
        if (suspects == NULL) {
            return error_no_memory(error, "a suspected row");
        }
        verdicts->suspects = suspects;
        verdicts->suspect_capacity = capacity;
    }
    size_t at = position(verdicts, seq);
    memmove(verdicts->suspects + at + 1, verdicts->suspects + at, (verdicts->suspect_count - at) * sizeof(int64_t));
    verdicts->suspects[at] = seq;
    verdicts->suspect_count++;
    return true;
}

static void remove_suspects(struct publish_verdicts *verdicts, size_t from, size_t to)
{
    memmove(verdicts->suspects + from, verdicts->suspects + to, (verdicts->suspect_count - to) * sizeof(int64_t));
    verdicts->suspect_count -= to - from;
}

void publish_suspects_clear(struct publish_verdicts *verdicts, int64_t seq)
{
    if (publish_suspects_has(verdicts, seq)) {
        size_t at = position(verdicts, seq);
        remove_suspects(verdicts, at, at + 1);
    }
}

void publish_suspects_clear_upto(struct publish_verdicts *verdicts, int64_t upto)
{
    if (verdicts->suspect_count > 0) {
        size_t at = position(verdicts, upto);
        remove_suspects(verdicts, 0, at + (at < verdicts->suspect_count && verdicts->suspects[at] == upto));
    }
}

size_t publish_suspects_cut(const struct publish_verdicts *verdicts, const int64_t *seqs, size_t count)
{
    if (verdicts->suspect_count == 0) {
        return count;
    }
    for (size_t i = 0; i < count; i++) {
        if (publish_suspects_has(verdicts, seqs[i])) {
            return i == 0 ? 1 : i;
        }
    }
    return count;
}
