// SPDX-License-Identifier: Apache-2.0
//
// "views1 <route> <sent> <rows> <token> <topic>:<partition>:<first>-<last>,...\n"; a topic that is the one of the run
// before is left out. Metadata that others wrote has no such lines and is passed over.
#include "relay/insert/view_note.h"

#include "relay/base/fnv.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORD        "views1 "
#define NUMBERS     ":%" PRId32 ":%" PRId64 "-%" PRId64
#define TOPIC_CHARS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-" // Kafka's

uint32_t view_note_route(const char *route, const char *table)
{
    return fnv_text(fnv_text(fnv_text(FNV_START, route), "\n"), table);
}

bool view_note_add(struct view_note *note, const char *topic, int32_t partition, int64_t first, int64_t last,
    struct relay_error *error)
{
    if (note->run_count == note->room) {
        size_t room = note->room ? note->room * 2 : 8;
        struct view_run *runs = reallocarray(note->runs, room, sizeof(*runs));
        if (!runs) {
            return error_no_memory(error, "noting an INSERT");
        }
        note->runs = runs;
        note->room = room;
    }
    struct view_run *run = &note->runs[note->run_count++];
    *run = (struct view_run){.partition = partition, .first = first, .last = last};
    snprintf(run->topic, sizeof(run->topic), "%s", topic);
    return true;
}

bool view_note_names(const struct view_note *note, const char *topic)
{
    for (size_t i = note->run_count; i > 0; i--) {
        if (strcmp(note->runs[i - 1].topic, topic) == 0) {
            return true;
        }
    }
    return false;
}

static int compare_runs(const void *a, const void *b)
{
    const struct view_run *left = a, *right = b;
    int topic = strcmp(left->topic, right->topic);
    return topic                              ? topic
        : left->partition != right->partition ? (left->partition < right->partition ? -1 : 1)
        : left->first != right->first         ? (left->first < right->first ? -1 : 1)
                                              : 0;
}

void view_note_sort(struct view_note *note)
{
    if (note->run_count > 1) {
        qsort(note->runs, note->run_count, sizeof(*note->runs), compare_runs);
    }
}

size_t view_note_run_bytes(const struct view_run *run)
{
    return 1 + (size_t)snprintf(NULL, 0, NUMBERS, run->partition, run->first, run->last); // and what stands before it
}

void view_note_finish(struct view_note *note)
{
    free(note->runs);
    *note = (struct view_note){0};
}

char *view_note_write(const struct view_note *note, struct relay_error *error)
{
    char line[VIEW_NOTE_MOST + 1];
    size_t length = (size_t)snprintf(line, sizeof(line), WORD "%08" PRIx32 " %" PRId64 " %" PRIu64 " %s", note->route,
        note->sent, note->rows, note->token);
    for (size_t i = 0; i < note->run_count && length < sizeof(line); i++) {
        const struct view_run *run = &note->runs[i];
        bool same = i > 0 && strcmp(run->topic, note->runs[i - 1].topic) == 0;
        length += (size_t)snprintf(line + length, sizeof(line) - length, "%c%s" NUMBERS, i > 0 ? ',' : ' ',
            same ? "" : run->topic, run->partition, run->first, run->last);
    }
    if (length + 1 >= sizeof(line)) {
        error_set(error, RELAY_ERROR_CONFIG,
            "the note of an INSERT of %zu partitions does not fit into an offset commit", note->run_count);
        return NULL;
    }
    memcpy(line + length, "\n", 2);
    char *copy = strdup(line);
    if (!copy) {
        error_no_memory(error, "noting an INSERT");
    }
    return copy;
}

static bool broken(struct relay_error *error)
{
    return error_set(error, RELAY_ERROR_PROTOCOL, "the note of an INSERT in the committed offset's metadata is broken");
}

// "topic:partition:first-last", the topic perhaps left out.
static bool parse_run(char *text, struct view_note *note, struct relay_error *error)
{
    char *colon = strchr(text, ':');
    int32_t partition;
    int64_t first, last;
    int end = 0;
    bool named = colon && colon != text;
    if (!colon || (!named && note->run_count == 0) || (size_t)(colon - text) >= VIEW_TOPIC_ROOM ||
        strspn(text, TOPIC_CHARS) != (size_t)(colon - text) ||
        sscanf(colon, ":%" SCNd32 ":%" SCNd64 "-%" SCNd64 "%n", &partition, &first, &last, &end) != 3 ||
        colon[end] != '\0' || partition < 0 || first < 0 || last < first) {
        return broken(error);
    }
    *colon = '\0';
    char topic[VIEW_TOPIC_ROOM]; // of its own: the runs may move
    snprintf(topic, sizeof(topic), "%s", named ? text : note->runs[note->run_count - 1].topic);
    return view_note_add(note, topic, partition, first, last, error);
}

bool view_note_parse(const char *line, struct view_note *note, struct relay_error *error)
{
    int end = 0;
    *note = (struct view_note){0};
    if (sscanf(line, WORD "%8" SCNx32 " %" SCNd64 " %" SCNu64 " %95s %n", &note->route, &note->sent, &note->rows,
            note->token, &end) != 4 ||
        end == 0 || line[end] == '\0' || note->rows > INT64_MAX) {
        return broken(error);
    }
    char *runs = strdup(line + end);
    if (!runs) {
        return error_no_memory(error, "reading the note of an INSERT");
    }
    runs[strcspn(runs, "\n")] = '\0';
    bool done = true;
    char *rest, *run = strtok_r(runs, ",", &rest);
    for (; done && run; run = strtok_r(NULL, ",", &rest)) {
        done = parse_run(run, note, error);
    }
    free(runs);
    return done && (note->run_count > 0 || broken(error));
}

char *view_note_pick(const char *metadata, size_t length, uint32_t route)
{
    char begin[32];
    size_t begins = (size_t)snprintf(begin, sizeof(begin), WORD "%08" PRIx32 " ", route);
    for (const char *at = metadata, *end = metadata + length; length > 0 && at < end;) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t size = stop ? (size_t)(stop - at) + 1 : (size_t)(end - at);
        if (size > begins && memcmp(at, begin, begins) == 0) {
            return strndup(at, size);
        }
        at += size;
    }
    return NULL;
}
