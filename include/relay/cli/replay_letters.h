// SPDX-License-Identifier: Apache-2.0
//
// Dead letters for `replay --into --dead-letters`: of messages that do not fit their table, those go into the
// dead-letter table that it does not have yet. As in refill.h, the table is asked before anything is sent, and two at a
// time are not kept from each other. One thread.
#ifndef RELAY_CLI_REPLAY_LETTERS_H
#define RELAY_CLI_REPLAY_LETTERS_H

#include "relay/cli/refill.h"

struct replay_letters;

// target: the table that the messages were meant for, as the daemon's letters name it. Errors: CLICKHOUSE_* (no such
// table), NO_MEMORY.
struct replay_letters *replay_letters_open(const struct relay_context *context, struct clickhouse_client *client,
    const char *target, struct relay_error *error);
void replay_letters_close(struct replay_letters *letters); // accepts NULL

// Of the messages with a result REFUSED. *written grows by those that were not there. Errors: CLICKHOUSE_* (where the
// outcome is not known the text says how long to wait before the next run, which finds what was stored), NO_MEMORY.
bool replay_letters_write(struct replay_letters *letters, const struct source_message *messages,
    const struct refill_result *results, size_t count, size_t *written, struct relay_error *error);

#endif
