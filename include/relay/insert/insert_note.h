// SPDX-License-Identifier: Apache-2.0
//
// A flight that waits for a commit of all its partitions. One with a note (view_note.h) waits until a commit has
// carried it; all later commits carry it on, and when the flight is given up its feeds owe it until views were
// completed. One of a partition without a committed offset waits for the first: "none" has to mean that no INSERT was
// ever sent, since the next owner begins at the lowest row then. The consumer's thread; no I/O.
#ifndef RELAY_INSERT_INSERT_NOTE_H
#define RELAY_INSERT_INSERT_NOTE_H

#include "relay/insert/insert_table.h"

// The flight waits for a commit.
bool insert_note_wanted(const struct insert_table *table);
// What commits of that partition carry for this feed: of the flight, or what is owed. NULL: nothing.
const char *insert_note_of(const struct insert_table *table, const struct insert_feed *feed);
// Every partition of the flight is committed, with the note, but for those where nothing can be committed.
void insert_note_accepted(struct insert_table *table);
// The flight is stored, or was never sent.
void insert_note_forget(struct insert_table *table);
// The flight went without a note, and a view that was not known has refused it: from now on commits carry it.
void insert_note_late(struct insert_table *table);
void insert_note_say_none(const struct insert_table *table, const struct relay_error *error);
// What became of the flight is no longer waited for, and views may miss it: its feeds complete them before they go on.
void insert_note_owe(struct insert_table *table);

#endif
