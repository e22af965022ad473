// SPDX-License-Identifier: Apache-2.0
//
// What becomes of a batch that Kafka did not take. Runs on the outbox's own thread.
#ifndef RELAY_PUBLISH_PUBLISH_REFUSED_H
#define RELAY_PUBLISH_PUBLISH_REFUSED_H

#include "relay/publish/publish_pipe.h"

// After records of the lane, or of what goes on in its transaction, have failed: suspects and verdicts are noted and
// everything is undone, or false where nobody knows what to do.
bool publish_refused(struct publish_pipe *pipe, struct publish_lane *lane, struct publish_lane *other,
    struct relay_error *error);
// After an error: a batch that ran out of time although some of it was acknowledged makes the next ones smaller. A slow
// line, or a quota, carries less, and the same batch would fail again for ever.
void publish_note_late(struct publish_pipe *pipe, const struct publish_lane *lane, const struct relay_error *why);
// Puts in front of an error where the records with this code were to go: the first one's topic and partition. Without a
// code: those that no report has come of.
void publish_name_place(const struct outbox_batch *batch, rd_kafka_resp_err_t code, struct relay_error *error);
// After an error of handing something over. Once the broker has refused a record librdkafka takes no more of the
// transaction, or of the client without transactions, and tells of the refusal a little later. true: that was it, and
// everything is undone as publish_complete() does. false: the error stands.
bool publish_send_failed(struct publish_pipe *pipe, struct publish_lane *lane, struct publish_lane *other,
    struct relay_error *error);

#endif
