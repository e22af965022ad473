// SPDX-License-Identifier: Apache-2.0
//
// What is noted in the metadata of offset commits before an INSERT into a table with dependent views: its token and
// which messages its rows are of. Whoever owns one of these partitions next can so complete what views may have missed
// (view_repeat.h). A note is one line of text; a partition's metadata holds one for each table. Pure, no I/O.
#ifndef RELAY_INSERT_VIEW_NOTE_H
#define RELAY_INSERT_VIEW_NOTE_H

#include "relay/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VIEW_NOTE_MOST     1300 // bytes of one note; a batch is closed before
#define VIEW_METADATA_MOST 4000 // of all of a partition; Kafka's offset.metadata.max.bytes is 4096
#define VIEW_TOPIC_ROOM    250

// Offsets between first and last, both included, of which every row that the table has belongs to the INSERT.
struct view_run {
    char topic[VIEW_TOPIC_ROOM];
    int32_t partition;
    int64_t first, last;
};

struct view_note {
    uint32_t route; // view_note_route() of the table that it is about
    char token[96]; // insert_deduplication_token
    int64_t sent;   // seconds since 1970 by the sender's clock
    uint64_t rows;
    struct view_run *runs;
    size_t run_count, room;
};

uint32_t view_note_route(const char *route, const char *table);
// Copies the topic. Errors: NO_MEMORY.
bool view_note_add(struct view_note *note, const char *topic, int32_t partition, int64_t first, int64_t last,
    struct relay_error *error);
// Whether it has a run of the topic.
bool view_note_names(const struct view_note *note, const char *topic);
// By topic, so that view_note_write() names each once.
void view_note_sort(struct view_note *note);
// What it takes when it is written, without the topic.
size_t view_note_run_bytes(const struct view_run *run);
void view_note_finish(struct view_note *note);
// The note as a line, malloc'd. NULL: NO_MEMORY, or longer than VIEW_NOTE_MOST (CONFIG).
char *view_note_write(const struct view_note *note, struct relay_error *error);
// The reverse; *note is the caller's also on failure. Errors: PROTOCOL, NO_MEMORY.
bool view_note_parse(const char *line, struct view_note *note, struct relay_error *error);
// The first line of the metadata that is about the route, malloc'd; NULL: none (or no memory).
char *view_note_pick(const char *metadata, size_t length, uint32_t route);

#endif
