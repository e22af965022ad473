// SPDX-License-Identifier: Apache-2.0
//
// Rows that cannot go to Kafka become verdicts (publish_verdicts.h). Runs on the outbox's own thread.
#ifndef RELAY_PUBLISH_PUBLISH_JUDGE_H
#define RELAY_PUBLISH_PUBLISH_JUDGE_H

#include "relay/publish/publish_pipe.h"

// A row of the lane that Kafka will never take: a verdict by on_poison. When that says stop: a suspect, so that what
// lies before it goes first; then, alone, false (OPERATOR).
bool publish_judge_poison(struct publish_pipe *pipe, const struct publish_lane *lane, int64_t seq, const char *code,
    const char *text, struct relay_error *error);
// PostgreSQL could not send some of the rows that the lane asked for, and none was read. The middle one becomes a
// suspect, so that next time half of them are asked for. A single one whose text is too long is read without it next
// time, and judged then. One that cannot be converted gets a verdict: a dead letter, also where on_poison says to hold
// its aggregate, whose names may be what cannot be converted. When it says stop: false (OPERATOR). error: on entry
// PostgreSQL's refusal.
bool publish_judge_unsendable(struct publish_pipe *pipe, const struct publish_lane *lane, struct relay_error *error);
// The rows for this topic wait, from this one on, until the topic is as it should be: a verdict. told: not for the log.
bool publish_park(struct publish_pipe *pipe, const struct outbox_row *row, const char *topic,
    const struct relay_error *why, bool told, struct relay_error *error);
// Before anything is sent: sizes, topics. Rows that cannot go are judged; *clean: none.
bool publish_validate(struct publish_pipe *pipe, struct publish_lane *lane, bool *clean, struct relay_error *error);

#endif
