// SPDX-License-Identifier: Apache-2.0
//
// A term: the ownership is proved to Kafka and PostgreSQL, what is in doubt is settled, and the producer is there. Runs
// on the outbox's own thread, but for publish_term_options.
#ifndef RELAY_PUBLISH_PUBLISH_TERM_H
#define RELAY_PUBLISH_PUBLISH_TERM_H

#include "relay/publish/publish_pipe.h"

// What a term's producer is made of. transactional_id: borrowed; left out with at_least_once.
struct kafka_producer_options publish_term_options(const struct config_outbox *config, const char *transactional_id);
bool publish_term_start(struct publish_pipe *pipe, struct relay_error *error);
// Whether Kafka answers this process. Needs no ownership.
bool publish_term_reach(struct publish_pipe *pipe, struct relay_error *error);
void publish_term_end(struct publish_pipe *pipe); // frees the producer first, then the batches; the locks stay

#endif
