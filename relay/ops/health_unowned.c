// SPDX-License-Identifier: Apache-2.0
#include "relay/ops/health_unowned.h"

#include "relay/base/metrics.h"

#include <stdio.h>
#include <string.h>

static bool was_there(const struct pg_unowned *before, const char *table)
{
    for (size_t i = 0; i < before->count; i++) {
        if (strcmp(before->outboxes[i].table, table) == 0) {
            return true;
        }
    }
    return false;
}

static void tell(struct health_unowned *unowned, size_t count, const char *text, bool quiet)
{
    const struct relay_context *context = unowned->context;
    metric_set(metrics_series0(context->metrics, METRIC_UNOWNED_OUTBOXES), (double)count);
    if (count == 0 && !unowned->told) {
        return;
    }
    if (count > 0) {
        status_board_set(context->board, STATUS_OUTBOX, "unowned outboxes", STATUS_DEGRADED, text);
    } else {
        status_board_remove(context->board, STATUS_OUTBOX, "unowned outboxes");
    }
    alerts_raise(unowned->alerts, "pipeline_degraded", "unowned outboxes", count > 0 ? ALERT_WARNING : ALERT_OK,
        count > 0 ? text : "each outbox in which events wait has an owner", (double)count, quiet);
    unowned->told = count > 0;
}

void health_unowned_look(struct health_unowned *unowned, struct pg_connection *own, struct duration every, bool quiet)
{
    struct mono_time now = clock_mono(unowned->context->clock);
    if (!mono_reached(now, unowned->due)) {
        return;
    }
    unowned->due = mono_add(now, every);
    struct pg_unowned found;
    struct relay_error ignored;
    if (!pg_unowned_find(own, unowned->context, &found, &ignored)) {
        return;
    }
    size_t count = 0;
    char text[700] = "";
    for (size_t i = 0; i < found.count; i++) {
        if (was_there(&unowned->last, found.outboxes[i].table) && count++ == 0) {
            char one[500];
            pg_unowned_tell(&found, i, one, sizeof(one));
            snprintf(text, sizeof(text), "outbox %s: %s", found.outboxes[i].table, one);
        }
    }
    if (count > 1) {
        size_t used = strlen(text);
        snprintf(text + used, sizeof(text) - used, "; and of %zu more outboxes", count - 1);
    }
    unowned->last = found;
    tell(unowned, count, text, quiet);
}
