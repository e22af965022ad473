// SPDX-License-Identifier: Apache-2.0
//
// What is sent to each kind of receiver; the forms are documented in docs/alerts.md. Text only: malloc'd JSON, NULL
// when out of memory.
#ifndef RELAY_OPS_ALERT_MESSAGE_H
#define RELAY_OPS_ALERT_MESSAGE_H

#include "relay/ops/alert_book.h"

#include <stddef.h>

// The order is that of alert_condition.receivers.
enum alert_receiver_kind { ALERT_WEBHOOK, ALERT_SLACK, ALERT_ALERTMANAGER };

// An alert that is not sent again ends at the Alertmanager after this long: the relay may have died.
#define ALERTMANAGER_VALID  DURATION_S(300)
#define ALERTMANAGER_RESEND DURATION_S(60)

struct alert_sender {
    const char *instance;   // of the process
    const char *deployment; // what it belongs to; "" where that has no name
};

// now: of the message. conditions: at least one, each with news for this kind of receiver.
char *alert_message(enum alert_receiver_kind kind, const struct alert_condition *const *conditions, size_t count,
    const struct alert_sender *sender, struct wall_time now);
const char *alert_receiver_name(enum alert_receiver_kind kind); // "webhook", "slack", "alertmanager"; static

#endif
