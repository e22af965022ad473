// SPDX-License-Identifier: Apache-2.0
//
// What a part of `check` says, for its unit test: a report that is kept, and the one line that is expected of it.
#ifndef TESTS_SUPPORT_CHECK_LINES_H
#define TESTS_SUPPORT_CHECK_LINES_H

#include "relay/cli/check_report.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct check_lines {
    struct check_report report;
    FILE *out;
    char *text;
    size_t size;
};

static inline void check_lines_begin(struct check_lines *lines)
{
    lines->text = NULL;
    lines->out = open_memstream(&lines->text, &lines->size);
    cr_assert_not_null(lines->out);
    check_report_init(&lines->report, lines->out, false);
}

// words: of the only line of this level; NULL: there is none.
static inline void check_lines_end(struct check_lines *lines, enum check_level level, const char *words)
{
    fclose(lines->out);
    cr_assert_eq(lines->report.counts[level], words ? 1 : 0, "%s", lines->text);
    cr_assert(!words || strstr(lines->text, words), "%s", lines->text);
    free(lines->text);
}

#endif
