// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/insert_doubt.h"

#include "relay/insert/read_back.h"

#include <stdio.h>
#include <string.h>

void insert_doubt_note(struct insert_doubt *doubt, const struct row_place *row, const char *token,
    struct mono_time until, struct mono_time now)
{
    bool another = mono_before(now, doubt->until) && strcmp(doubt->token, token) != 0;
    doubt->row = another || row == NULL ? (struct row_place){0} : *row;
    snprintf(doubt->token, sizeof(doubt->token), "%s", token);
    if (mono_before(doubt->until, until)) {
        doubt->until = until;
    }
}

bool insert_doubt_has_begun(const struct insert_doubt *doubt, const struct relay_context *context,
    struct clickhouse_client *client, const char *target, const struct table_plan *plan, bool *begun,
    struct relay_error *error)
{
    struct read_back look = {.target = target,
        .topic = doubt->row.topic,
        .partition = doubt->row.partition,
        .from = doubt->row.offset,
        .highest_known = true};
    int endpoint = CLICKHOUSE_ANY_ENDPOINT;
    *begun = false;
    if (doubt->row.topic[0] == '\0') {
        return true;
    }
    bool done = read_back_offsets(context, client, plan, &look, &endpoint, error);
    *begun = done && offset_ranges_contain(&look.found, doubt->row.offset);
    offset_ranges_finish(&look.found);
    return done;
}
