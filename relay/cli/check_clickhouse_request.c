// SPDX-License-Identifier: Apache-2.0
//
// Whether requests come to the server as they were sent. An INSERT in doubt is looked for, and killed, by its query id;
// its token, and all that makes it one block, are settings in the URL. A proxy may replace the one and drop the others
// (chproxy does), and nobody notices until rows are doubled.
#include "relay/cli/check.h"

#include <stdio.h>
#include <string.h>

#define TOKEN "outbox-relay check"

static bool is(const struct clickhouse_result *result, size_t column, const char *sent)
{
    const char *came = clickhouse_result_text(result, 0, column, NULL);
    return came && strcmp(came, sent) == 0;
}

void check_clickhouse_request(struct check *check, struct clickhouse_client *client, int endpoint,
    const struct clickhouse_server *server)
{
    const struct clickhouse_setting token = {"insert_deduplication_token", TOKEN};
    const struct clickhouse_request request = {.endpoint = endpoint,
        .timeout = CHECK_TIMEOUT,
        .settings = &token,
        .setting_count = 1};
    struct clickhouse_outcome outcome;
    struct clickhouse_result *result = NULL;
    if (server->major < 22) {
        return; // no queryID()
    }
    // Where the list of settings has no token, none is sent.
    const char *statement = server->has_deduplication_token
        ? "SELECT queryID(), getSetting('insert_deduplication_token')"
        : "SELECT queryID(), '" TOKEN "'";
    if (!clickhouse_query(client, &request, statement, &result, &outcome, NULL)) {
        return; // it has just answered; whatever else needs it says so
    }
    bool id = is(result, 0, outcome.query_id), settings = is(result, 1, TOKEN);
    if (!id || !settings) {
        check_add(check->report, CHECK_FAIL, "clickhouse",
            "name the server itself, or a proxy that passes all parameters of the URL on (docs/guarantees-insert.md)",
            "%s: %s%s%s not arrive at the server as sent: a proxy before it changes them (chproxy does), and rows "
            "would be doubled after an INSERT in doubt",
            clickhouse_client_url(client, endpoint), id ? "" : "query ids", id || settings ? "" : " and ",
            settings ? " do" : "settings do");
    }
    clickhouse_result_free(result);
}
