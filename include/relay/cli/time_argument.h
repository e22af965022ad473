// SPDX-License-Identifier: Apache-2.0
//
// A point in time as an operator writes it: RFC 3339 ("2026-03-01T12:34:56.5+01:00"; without an offset it is UTC; a
// blank for the T; the date alone is its midnight), or how long ago ("2h", "1h30m", "3d", "90 s", "2 hours ago").
// Refuses what is not a date of the calendar and what is left over. Pure.
#ifndef RELAY_CLI_TIME_ARGUMENT_H
#define RELAY_CLI_TIME_ARGUMENT_H

#include "relay/base/clock.h"
#include "relay/base/error.h"

#include <stdbool.h>

// Errors: USAGE, with what is accepted.
bool time_argument_parse(const char *text, struct wall_time now, struct wall_time *time, struct relay_error *error);

#endif
