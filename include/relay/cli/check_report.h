// SPDX-License-Identifier: Apache-2.0
//
// The findings of `check`: each is one line (ok, warn or FAIL; what was looked at; what is so; what to do), printed as
// soon as it is known, or, for --json, gathered and printed at the end. One thread.
#ifndef RELAY_CLI_CHECK_REPORT_H
#define RELAY_CLI_CHECK_REPORT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

enum check_level { CHECK_OK, CHECK_WARN, CHECK_FAIL };

struct check_report {
    FILE *out;
    bool colour;
    json_t *items; // NULL: lines are printed
    size_t counts[3];
};

// json: gathers. Colours are used when out is a terminal and NO_COLOR is not set.
void check_report_init(struct check_report *report, FILE *out, bool json);
// what: "postgres", "outbox default", "route orders" ... hint: what to do, "" for nothing; line ends become blanks.
void check_add(struct check_report *report, enum check_level level, const char *what, const char *hint,
    const char *format, ...) __attribute__((format(printf, 5, 6)));
// The summary line, or the JSON. Returns the exit code: 0, or 1 if anything failed.
int check_report_finish(struct check_report *report);

#endif
