// SPDX-License-Identifier: Apache-2.0
//
// A lane's batch on its way to Kafka and to PostgreSQL's COMMIT. Runs on the outbox's own thread.
#ifndef RELAY_PUBLISH_PUBLISH_SEND_H
#define RELAY_PUBLISH_PUBLISH_SEND_H

#include "relay/publish/publish_pipe.h"

// Hands the batch to Kafka. The lane is then SENT.
bool publish_send(struct publish_pipe *pipe, struct publish_lane *lane, struct relay_error *error);
// And the receipt of its transaction: nothing more goes into it.
bool publish_send_receipt(struct publish_pipe *pipe, struct publish_lane *lane, struct relay_error *error);
// From delivery to Kafka's commit and PostgreSQL's COMMIT on its way: the lane is then COMMITTING; or only to delivery
// where the other lane goes on in its transaction: it is IDLE. Meanwhile the other lane goes on. When the broker
// refused a record the suspects are noted, everything is undone, and both lanes are IDLE.
bool publish_complete(struct publish_pipe *pipe, struct publish_lane *lane, struct publish_lane *other,
    struct relay_error *error);

#endif
