// SPDX-License-Identifier: Apache-2.0
#include "relay/ops/health_servers.h"

#include "relay/base/metrics.h"
#include "relay/postgres/pg_server.h"

#include <stdio.h>

#define LOOK_EVERY DURATION_S(30)
#define ASK_TIME   DURATION_S(5)

// Whether this host takes writes as well, and is another server; then text names both.
static bool look_at_host(const struct relay_context *context, int host, const struct pg_server *first,
    const char *first_address, char *text, size_t room)
{
    struct relay_error ignored; // a standby that is down or refuses is not this one's to tell
    struct pg_server server;
    struct pg_options options = {.role = "look", .raw = true, .brief = true, .only_host = host};
    struct pg_connection *connection = pg_connect(context, &options, &ignored);
    if (connection == NULL) {
        return false;
    }
    bool both = pg_server_ask(connection, &server, mono_add(clock_mono(context->clock), ASK_TIME), &ignored) &&
        server.takes_writes && server.system_identifier == first->system_identifier && !pg_server_same(&server, first);
    if (both) {
        snprintf(text, room,
            "two servers take writes, %s (timeline %u) and %s (timeline %u): what is written to one of them is not "
            "published. Stop the former primary",
            first_address, first->timeline, pg_server_address(connection), server.timeline);
    }
    pg_close(connection);
    return both;
}

static void tell(struct health_servers *servers, bool both, const char *text)
{
    metric_set(metrics_series0(servers->context->metrics, METRIC_POSTGRES_PRIMARIES), both ? 2 : 1);
    if (!both && !servers->told) {
        return;
    }
    char instance[160];
    snprintf(instance, sizeof(instance), "postgres servers at %s", servers->replica);
    if (both) {
        status_board_set(servers->context->board, STATUS_POSTGRES, "servers", STATUS_DEGRADED, text);
    } else {
        status_board_remove(servers->context->board, STATUS_POSTGRES, "servers");
    }
    alerts_raise(servers->alerts, "pipeline_degraded", instance, both ? ALERT_CRITICAL : ALERT_OK,
        both ? text : "one server takes writes", both ? ALERT_CRITICAL : ALERT_OK, false);
    servers->told = both;
}

void health_servers_look(struct health_servers *servers, struct pg_connection *own)
{
    struct relay_context context = *servers->context;
    struct mono_time now = clock_mono(context.clock);
    if (servers->due.ns == 0) {
        servers->due = mono_add(now, LOOK_EVERY);
    }
    if (!mono_reached(now, servers->due)) {
        return;
    }
    servers->due = mono_add(now, LOOK_EVERY);
    context.postgres_breaker = NULL; // a standby that is down is no reason to leave the primary alone
    struct pg_server first;
    struct relay_error error;
    char text[400] = "";
    if (!pg_server_ask(own, &first, mono_add(now, ASK_TIME), &error) || !first.takes_writes) {
        return;
    }
    bool both = false;
    int count = pg_count_hosts(&context);
    for (int host = 1; host <= count && !both && !stop_raised(context.stop); host++) {
        heartbeat_beat(servers->heartbeat);
        both = look_at_host(&context, host, &first, pg_server_address(own), text, sizeof(text));
    }
    // A server that restarted between the questions looks like two: then the first session is gone.
    if (!stop_raised(context.stop) &&
        pg_server_ask(own, &first, mono_add(clock_mono(context.clock), ASK_TIME), &error)) {
        tell(servers, both && first.takes_writes, text);
    }
}

void health_servers_lost(struct health_servers *servers)
{
    status_board_remove(servers->context->board, STATUS_POSTGRES, "servers");
    metric_set(metrics_series0(servers->context->metrics, METRIC_POSTGRES_PRIMARIES), 0);
}
