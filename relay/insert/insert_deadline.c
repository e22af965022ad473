// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/insert_deadline.h"

#include <stdio.h>
#include <string.h>

#define NO_DEADLINE "> 9999999999," // as the condition has it
#define CLOCK_AGE   DURATION_S(30)
#define CLOCK_LIMIT DURATION_S(10)
#define START_MOST  DURATION_S(10)
#define START_LEAST DURATION_S(2)

void insert_deadline_set(char *statement, int64_t seconds)
{
    char *at = strstr(statement, NO_DEADLINE);
    if (at && seconds > 0 && seconds < INT64_C(9999999999)) {
        char digits[24];
        snprintf(digits, sizeof(digits), "%010lld", (long long)seconds);
        memcpy(at + 2, digits, 10);
    }
}

bool insert_deadline_was_over(const struct clickhouse_outcome *outcome, const struct relay_error *error)
{
    return outcome->exception_code == CLICKHOUSE_CODE_FUNCTION_THROW_IF_VALUE_IS_NON_ZERO &&
        strstr(error->text, INSERT_DEADLINE_LATE) != NULL;
}

struct duration insert_deadline_most(const struct relay_context *context)
{
    struct duration timeout = context->config->clickhouse.request_timeout;
    timeout = timeout.ns < START_LEAST.ns ? START_LEAST : timeout;
    return timeout.ns < START_MOST.ns ? timeout : START_MOST;
}

bool server_clock_is_due(const struct server_clock *known, const struct clock *clock)
{
    return !known->known || mono_reached(clock_mono(clock), mono_add(known->at, CLOCK_AGE));
}

bool server_clock_measure(struct server_clock *known, const struct relay_context *context,
    struct clickhouse_client *client, int endpoint, struct relay_error *error)
{
    struct clickhouse_clock measured;
    if (!server_clock_is_due(known, context->clock)) {
        return true;
    }
    if (!clickhouse_server_clock(client, endpoint, CLOCK_LIMIT, &measured, error)) {
        return false;
    }
    *known = (struct server_clock){.known = true, .at = measured.at, .server_us = measured.us, .doubt = measured.doubt};
    return true;
}

int64_t server_clock_seconds(const struct server_clock *known, struct mono_time at)
{
    return (known->server_us + (mono_since(at, known->at).ns - known->doubt.ns) / 1000) / 1000000;
}
