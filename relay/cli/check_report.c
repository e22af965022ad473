// SPDX-License-Identifier: Apache-2.0
//
// See check_report.h. A text too long for a line is cut; out of memory while gathering counts as failed.
#include "relay/cli/check_report.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const words[] = {[CHECK_OK] = "ok", [CHECK_WARN] = "warn", [CHECK_FAIL] = "FAIL"};

void check_report_init(struct check_report *report, FILE *out, bool json)
{
    const char *no_colour = getenv("NO_COLOR");
    *report = (struct check_report){.out = out,
        .items = json ? json_array() : NULL,
        .colour = !json && isatty(fileno(out)) && (!no_colour || no_colour[0] == '\0')};
}

static void one_line(char *text)
{
    for (char *at = text; *at != '\0'; at++) {
        if ((unsigned char)*at < ' ') {
            *at = ' ';
        }
    }
}

static void print_line(const struct check_report *report, enum check_level level, const char *what, const char *text,
    const char *hint)
{
    static const char *const colours[] =
        {[CHECK_OK] = "\033[32m", [CHECK_WARN] = "\033[33m", [CHECK_FAIL] = "\033[1;31m"};
    fprintf(report->out, "%s%-5s%s %s: %s%s%s\n", report->colour ? colours[level] : "", words[level],
        report->colour ? "\033[0m" : "", what, text, hint[0] != '\0' ? "; to do: " : "", hint);
    fflush(report->out);
}

void check_add(struct check_report *report, enum check_level level, const char *what, const char *hint,
    const char *format, ...)
{
    char text[1200], to_do[1000];
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof(text), format, values);
    va_end(values);
    snprintf(to_do, sizeof(to_do), "%s", hint);
    one_line(text);
    one_line(to_do);
    report->counts[level]++;
    if (!report->items) {
        print_line(report, level, what, text, to_do);
        return;
    }
    json_t *item = json_pack("{s:s, s:s, s:s+, s:s+}", "level", words[level], "what", what, "text", text, "", "to_do",
        to_do, "");
    if (!item || json_array_append_new(report->items, item) != 0) {
        report->counts[CHECK_FAIL]++;
    }
}

int check_report_finish(struct check_report *report)
{
    size_t *counts = report->counts;
    if (report->items) {
        json_t *all = json_pack("{s:I, s:I, s:I, s:o}", "ok", (json_int_t)counts[CHECK_OK], "warn",
            (json_int_t)counts[CHECK_WARN], "fail", (json_int_t)counts[CHECK_FAIL], "checks", report->items);
        if (all) {
            json_dumpf(all, report->out, JSON_INDENT(2));
            fputc('\n', report->out);
        }
        json_decref(all);
        report->items = NULL;
        return all && counts[CHECK_FAIL] == 0 ? 0 : 1;
    }
    fprintf(report->out, "%zu ok, %zu to look at, %zu failed\n", counts[CHECK_OK], counts[CHECK_WARN],
        counts[CHECK_FAIL]);
    return counts[CHECK_FAIL] == 0 ? 0 : 1;
}
