// SPDX-License-Identifier: Apache-2.0
//
// What an outbox's rows wait for, as PostgreSQL has it, and which topics this process has missed itself.
#include "relay/publish/publish_waiting.h"

#include <string.h>

bool publish_count_waiting(struct publish_pipe *pipe, struct pg_connection *connection, struct relay_error *error)
{
    if (!outbox_sql_count_waiting(connection, &pipe->held, &pipe->parked, pipe->first_waiting,
            sizeof(pipe->first_waiting), pg_deadline(pipe->context), error)) {
        return false;
    }
    PGresult *topics = NULL;
    if (pipe->parked > 0) {
        topics = outbox_sql_list_parked(connection, pg_deadline(pipe->context), error);
        if (topics == NULL) {
            return false;
        }
    }
    PQclear(pipe->topics);
    pipe->topics = topics;
    return true;
}

bool publish_is_parked(const struct publish_pipe *pipe, const char *topic)
{
    for (int i = 0; pipe->topics != NULL && i < PQntuples(pipe->topics); i++) {
        if (strcmp(PQgetvalue(pipe->topics, i, 0), topic) == 0) {
            return true;
        }
    }
    return false;
}

bool publish_has_missed(const struct publish_pipe *pipe, const char *topic)
{
    return name_set_has(&pipe->missing, topic);
}

bool publish_note_missing(struct publish_pipe *pipe, const char *topic, struct relay_error *error)
{
    return name_set_add(&pipe->missing, topic, error);
}
