// SPDX-License-Identifier: Apache-2.0
//
// An INSERT as the daemon sends it, but with no rows and a deadline that is long over, so that it can store nothing.
// The server judges what no system table tells: rights (of views and input(), too), the constraints and readonly of the
// user's profile. Success, and the refusal for the deadline, say that all of it is as it must be.
#include "relay/cli/check.h"

#include "relay/insert/insert_deadline.h"

#include <stdio.h>

static enum check_level level_of(enum clickhouse_failure failure)
{
    switch (failure) {
    case CLICKHOUSE_OPERATOR:
    case CLICKHOUSE_SCHEMA_DRIFT:
    case CLICKHOUSE_BAD_ROW:
    case CLICKHOUSE_UNKNOWN_CODE: return CHECK_FAIL;
    case CLICKHOUSE_DONE:
    case CLICKHOUSE_NOT_SENT:
    case CLICKHOUSE_OUTCOME_UNKNOWN:
    case CLICKHOUSE_TRANSIENT:
    case CLICKHOUSE_BACK_PRESSURE:
    case CLICKHOUSE_MEMORY:
    case CLICKHOUSE_FAILURES: break;
    }
    return CHECK_WARN; // may pass: the daemon would try again
}

static const char *mend_of(int code)
{
    switch (code) {
    case CLICKHOUSE_CODE_ACCESS_DENIED: return CHECK_GRANT_CLICKHOUSE;
    case CLICKHOUSE_CODE_SETTING_CONSTRAINT_VIOLATION:
    case CLICKHOUSE_CODE_READONLY:
        return "give [clickhouse] user a profile that is not readonly and whose constraints allow this";
    default: return "";
    }
}

bool check_insert(struct check *check, struct clickhouse_client *client, int endpoint, const char *what,
    char *statement)
{
    char seconds[24];
    struct duration longest = check->context->config->clickhouse.request_timeout; // of an INSERT of the daemon
    snprintf(seconds, sizeof(seconds), "%lld", (long long)(longest.ns / 1000000000 + 1));
    const struct clickhouse_setting settings[] = {{"insert_deduplication_token", "outbox-relay check"},
        {"max_execution_time", seconds}};
    const struct clickhouse_request request = {.endpoint = endpoint,
        .timeout = CHECK_TIMEOUT,
        .settings = settings,
        .setting_count = sizeof(settings) / sizeof(settings[0])};
    const struct iovec no_rows = {0}; // NULL would be a GET
    struct clickhouse_outcome outcome;
    struct relay_error error;
    insert_deadline_set(statement, 1);
    if (clickhouse_insert(client, &request, statement, &no_rows, 0, &outcome, &error) ||
        insert_deadline_was_over(&outcome, &error)) {
        return true;
    }
    check_add(check->report, level_of(outcome.failure), what, mend_of(outcome.exception_code),
        "an INSERT without rows, as a trial: %s", error.text);
    return false;
}
