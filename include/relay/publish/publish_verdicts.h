// SPDX-License-Identifier: Apache-2.0
//
// What has been decided about rows that cannot go to Kafka as they are, and which rows are only suspected: kept while
// the batch that met them is rolled back, carried out by the next careful batch. Owns copies of the texts. One thread
// at a time.
#ifndef RELAY_PUBLISH_PUBLISH_VERDICTS_H
#define RELAY_PUBLISH_PUBLISH_VERDICTS_H

#include "relay/base/error.h"
#include "relay/publish/outbox_row.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Names of up to so many bytes fit the primary key of held_aggregates: an entry of such an index takes 2704 bytes, the
// outbox's identity included.
#define PUBLISH_WAITING_KEY_MAX 2600

enum verdict_action {
    VERDICT_DEAD_LETTER, // poison: into the dead letters
    VERDICT_HOLD,        // poison: it stays, and its aggregate waits behind it
    VERDICT_PARK,        // its topic needs an operator: all rows for it wait
};

struct publish_verdict {
    int64_t seq;
    enum verdict_action action;
    char code[48]; // for machines: a publish_reason, or the broker's error
    char reason[512];
    char type[250]; // of the row, for the log: of a longer one the beginning
    size_t type_length;
    char topic[250]; // of PARK
    bool moot;       // the row was for another topic when this was carried out: nothing was parked
    bool told;       // parked already, for the same cause: not for the log again
};

struct publish_verdicts {
    struct publish_verdict *items;
    size_t count, capacity;
    size_t *table; // of the items, by a hash of the row's number, and of the topic that is parked
    size_t slots, used;
    int64_t *suspects; // ascending: rows of a batch in which the broker refused some record
    size_t suspect_count, suspect_capacity;
};

void publish_verdicts_finish(struct publish_verdicts *verdicts);
void publish_verdicts_clear(struct publish_verdicts *verdicts); // the verdicts; the suspects stay
// Those on rows: somebody may fix or drop such a row before its verdict can be carried out, and it is judged again
// where it is read again. Those on topics stay.
void publish_verdicts_clear_rows(struct publish_verdicts *verdicts);
// A second verdict on the same row replaces the first. PARK stands for all rows of a topic: it has the lowest of their
// numbers. Errors: NO_MEMORY.
bool publish_verdicts_add(struct publish_verdicts *verdicts, const struct publish_verdict *verdict,
    struct relay_error *error);

// The type of the row.
void publish_verdict_type(struct publish_verdict *verdict, struct text_view type);
// What parks this topic; NULL: nothing does. Valid until the next verdict.
const struct publish_verdict *publish_verdicts_parking(const struct publish_verdicts *verdicts, const char *topic);

bool publish_suspects_add(struct publish_verdicts *verdicts, int64_t seq, struct relay_error *error);
bool publish_suspects_has(const struct publish_verdicts *verdicts, int64_t seq);
// This row is cleared of suspicion: it has been published, or judged. Not those before it: a row that waited, or lay
// below the watermark, is published long after rows with higher numbers.
void publish_suspects_clear(struct publish_verdicts *verdicts, int64_t seq);
// No row is left up to this one.
void publish_suspects_clear_upto(struct publish_verdicts *verdicts, int64_t upto);
// How many of these rows (ascending) may go together: all before the first suspect, or one suspect alone.
size_t publish_suspects_cut(const struct publish_verdicts *verdicts, const int64_t *seqs, size_t count);

#endif
