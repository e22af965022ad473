// SPDX-License-Identifier: Apache-2.0
#include "relay/config/config_value.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct unit {
    const char *name;
    int64_t factor;
};

static const struct unit size_units[] = {{"", 1}, {"B", 1}, {"KiB", 1024}, {"MiB", 1024 * 1024},
    {"GiB", 1024 * 1024 * 1024}, {NULL, 0}};
static const struct unit duration_units[] = {{"ms", 1000000}, {"s", 1000000000}, {"m", 60000000000},
    {"h", 3600000000000}, {"d", 86400000000000}, {NULL, 0}};

// Digits only, as strtoll would also take blanks and signs. *rest is what follows them.
static bool read_digits(const char *text, int64_t *value, const char **rest)
{
    if (!isdigit((unsigned char)text[0])) {
        return false;
    }
    *value = 0;
    for (; isdigit((unsigned char)*text); text++) {
        if (__builtin_mul_overflow(*value, (int64_t)10, value) || __builtin_add_overflow(*value, *text - '0', value)) {
            return false;
        }
    }
    *rest = text;
    return true;
}

static bool read_with_unit(const char *text, const struct unit *units, int64_t *value)
{
    const char *rest;
    if (!read_digits(text, value, &rest)) {
        return false;
    }
    rest += strspn(rest, " ");
    for (; units->name != NULL; units++) {
        if (strcmp(units->name, rest) == 0) {
            return !__builtin_mul_overflow(*value, units->factor, value);
        }
    }
    return false;
}

bool config_parse_integer(const char *text, int64_t *value, struct relay_error *error)
{
    const char *rest;
    bool negative = text[0] == '-';
    if (read_digits(text + negative, value, &rest) && *rest == '\0') {
        *value = negative ? -*value : *value;
        return true;
    }
    return error_set(error, RELAY_ERROR_CONFIG, "expected a whole number");
}

bool config_parse_size(const char *text, int64_t *bytes, struct relay_error *error)
{
    return read_with_unit(text, size_units, bytes) ||
        error_set(error, RELAY_ERROR_CONFIG, "expected a size such as 64KiB, 8MiB, 1GiB or plain bytes");
}

bool config_parse_duration(const char *text, int64_t *ns, struct relay_error *error)
{
    if (strcmp(text, "0") == 0) {
        *ns = 0;
        return true;
    }
    return read_with_unit(text, duration_units, ns) ||
        error_set(error, RELAY_ERROR_CONFIG, "expected a duration with its unit, such as 500ms, 5s, 10m, 4h or 2d");
}

bool config_parse_boolean(const char *text, bool *value, struct relay_error *error)
{
    static const char *const yes[] = {"true", "yes", "on", "1"};
    static const char *const no[] = {"false", "no", "off", "0"};
    for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
        if (strcasecmp(text, yes[i]) == 0 || strcasecmp(text, no[i]) == 0) {
            *value = strcasecmp(text, yes[i]) == 0;
            return true;
        }
    }
    return error_set(error, RELAY_ERROR_CONFIG, "expected true or false");
}

bool config_parse_ratio(const char *text, double *value, struct relay_error *error)
{
    char *end = NULL;
    *value = isdigit((unsigned char)text[0]) ? strtod(text, &end) : 0;
    bool percent = end != NULL && strcmp(end, "%") == 0;
    *value = percent ? *value / 100 : *value;
    if (end != NULL && (percent || *end == '\0') && *value >= 0 && *value <= 1) {
        return true;
    }
    *value = 0;
    return error_set(error, RELAY_ERROR_CONFIG, "expected a ratio from 0 to 1, or a percentage such as 5%%");
}

bool config_parse_word(const char *text, const char *const *words, int *index, struct relay_error *error)
{
    char expected[256] = "";
    for (int i = 0; words[i] != NULL; i++) {
        if (strcmp(words[i], text) == 0) {
            *index = i;
            return true;
        }
        size_t used = strlen(expected);
        snprintf(expected + used, sizeof(expected) - used, "%s%s",
            i == 0                     ? ""
                : words[i + 1] == NULL ? " or "
                                       : ", ",
            words[i]);
    }
    return error_set(error, RELAY_ERROR_CONFIG, "expected %s", expected);
}

// The next item of a list: [*at, *at + length) without blanks around; *next behind its comma, NULL at the end.
static const char *next_item(const char *text, size_t *length, const char **next)
{
    text += strspn(text, " \t");
    const char *comma = strchr(text, ',');
    const char *end = comma == NULL ? text + strlen(text) : comma;
    *next = comma == NULL ? NULL : comma + 1;
    while (end > text && (end[-1] == ' ' || end[-1] == '\t')) {
        end--;
    }
    *length = (size_t)(end - text);
    return text;
}

static size_t count_items(const char *text)
{
    if (text[strspn(text, " \t")] == '\0') {
        return 0;
    }
    size_t count = 1;
    for (; *text != '\0'; text++) {
        count += *text == ',';
    }
    return count;
}

bool config_parse_list(struct config_memory *memory, const char *text, struct config_list *list,
    struct relay_error *error)
{
    *list = (struct config_list){0};
    size_t count = count_items(text);
    if (count == 0) {
        return true;
    }
    char **items = config_memory_take(memory, count * sizeof(*items));
    if (items == NULL) {
        return error_no_memory(error, "reading a list");
    }
    for (size_t i = 0; i < count; i++) {
        size_t length;
        const char *item = next_item(text, &length, &text);
        if (length == 0) {
            return error_set(error, RELAY_ERROR_CONFIG,
                "expected a list with commas between its items; item %zu is empty", i + 1);
        }
        items[i] = config_memory_copy(memory, item, length);
    }
    *list = (struct config_list){.items = items, .count = count};
    return true;
}

static bool parse_additional(struct config_memory *memory, char *text, struct config_additional *item,
    struct relay_error *error)
{
    static const char *const placements[] = {"header", "envelope", "partition", NULL};
    char *first = strchr(text, ':');
    if (first == NULL || first == text) {
        return error_set(error, RELAY_ERROR_CONFIG,
            "expected column:header, column:envelope or column:partition, each with :alias "
            "behind it if wanted");
    }
    *first = '\0';
    char *second = strchr(first + 1, ':');
    if (second != NULL) {
        *second = '\0';
    }
    int placement;
    if (!config_parse_word(first + 1, placements, &placement, error)) {
        return error_prefix(error, "place of column %.60s", text);
    }
    if (second != NULL && second[1] == '\0') {
        return error_set(error, RELAY_ERROR_CONFIG, "the alias of column %.60s is empty", text);
    }
    item->column = config_memory_text(memory, text);
    item->placement = (enum config_placement)placement;
    item->alias = second == NULL ? item->column : config_memory_text(memory, second + 1);
    return true;
}

bool config_parse_additional(struct config_memory *memory, const char *text, struct config_additional **items,
    size_t *count, struct relay_error *error)
{
    *items = NULL;
    *count = 0;
    struct config_list list;
    if (!config_parse_list(memory, text, &list, error)) {
        return false;
    }
    if (list.count == 0) {
        return true;
    }
    struct config_additional *parsed = config_memory_take(memory, list.count * sizeof(*parsed));
    if (parsed == NULL) {
        return error_no_memory(error, "reading a list");
    }
    for (size_t i = 0; i < list.count; i++) {
        if (!parse_additional(memory, list.items[i], &parsed[i], error)) {
            return false;
        }
    }
    *items = parsed;
    *count = list.count;
    return true;
}

static const char *format_with_unit(struct config_memory *memory, int64_t value, const struct unit *units)
{
    const struct unit *best = &units[0];
    for (const struct unit *unit = units; unit->name != NULL; unit++) {
        if (value % unit->factor == 0 && unit->factor >= best->factor && value >= unit->factor) {
            best = unit;
        }
    }
    return config_memory_format(memory, "%lld%s", (long long)(value / best->factor), best->name);
}

const char *config_format_size(struct config_memory *memory, int64_t bytes)
{
    return format_with_unit(memory, bytes, size_units);
}

const char *config_format_duration(struct config_memory *memory, int64_t ns)
{
    return ns == 0 ? "0s" : format_with_unit(memory, ns, duration_units);
}

// Insertions, deletions, replacements and swaps of neighbours between two names, case aside.
static int edit_distance(const char *a, const char *b)
{
    enum { MOST = 64 };
    size_t a_length = strlen(a), b_length = strlen(b);
    if (a_length > MOST || b_length > MOST) {
        return INT_MAX;
    }
    int rows[3][MOST + 1];
    int *before = rows[0], *last = rows[1], *now = rows[2];
    for (size_t j = 0; j <= b_length; j++) {
        last[j] = before[j] = (int)j;
    }
    for (size_t i = 1; i <= a_length; i++) {
        now[0] = (int)i;
        for (size_t j = 1; j <= b_length; j++) {
            bool same = tolower((unsigned char)a[i - 1]) == tolower((unsigned char)b[j - 1]);
            int cost = last[j - 1] + !same;
            cost = last[j] + 1 < cost ? last[j] + 1 : cost;
            cost = now[j - 1] + 1 < cost ? now[j - 1] + 1 : cost;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < cost) {
                cost = before[j - 2] + 1;
            }
            now[j] = cost;
        }
        int *spare = before;
        before = last;
        last = now;
        now = spare;
    }
    return last[b_length];
}

const char *config_nearest(const char *text, const char *(*name_of)(const void *context, size_t i), const void *context,
    size_t count)
{
    const char *best = NULL;
    int best_distance = INT_MAX;
    for (size_t i = 0; i < count; i++) {
        const char *name = name_of(context, i);
        int distance = name == NULL ? INT_MAX : edit_distance(text, name);
        if (distance < best_distance) {
            best = name;
            best_distance = distance;
        }
    }
    int length = (int)strnlen(text, 64);
    return best != NULL && best_distance <= (length < 4 ? 1 : length / 3 + 1) ? best : NULL;
}
