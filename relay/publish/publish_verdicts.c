// SPDX-License-Identifier: Apache-2.0
#include "relay/publish/publish_verdicts.h"

#include <stdlib.h>
#include <string.h>

void publish_verdicts_finish(struct publish_verdicts *verdicts)
{
    free(verdicts->items);
    free(verdicts->suspects);
    *verdicts = (struct publish_verdicts){0};
}

void publish_verdicts_clear(struct publish_verdicts *verdicts)
{
    verdicts->count = 0;
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
}

void publish_verdict_type(struct publish_verdict *verdict, struct text_view type)
{
    verdict->type_length = type.length < sizeof(verdict->type) ? type.length : sizeof(verdict->type);
    memcpy(verdict->type, type.length > 0 ? type.at : "", verdict->type_length);
}

static bool parks_the_same(const struct publish_verdict *a, const struct publish_verdict *b)
{
    return a->action == VERDICT_PARK && b->action == VERDICT_PARK && strcmp(a->topic, b->topic) == 0;
}

bool publish_verdicts_add(struct publish_verdicts *verdicts, const struct publish_verdict *verdict,
    struct relay_error *error)
{
    for (size_t i = 0; i < verdicts->count; i++) {
        struct publish_verdict *item = &verdicts->items[i];
        if (item->seq == verdict->seq || parks_the_same(item, verdict)) {
            int64_t seq = item->seq < verdict->seq ? item->seq : verdict->seq;
            *item = *verdict;
            item->seq = seq;
            return true;
        }
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
    return true;
}

const struct publish_verdict *publish_verdicts_parking(const struct publish_verdicts *verdicts, const char *topic)
{
    for (size_t i = 0; i < verdicts->count; i++) {
        if (verdicts->items[i].action == VERDICT_PARK && strcmp(verdicts->items[i].topic, topic) == 0) {
            return &verdicts->items[i];
        }
    }
    return NULL;
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
