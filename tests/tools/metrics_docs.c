// SPDX-License-Identifier: Apache-2.0
//
// metrics_docs write|check docs/metrics.md DASHBOARD [RULES ...] write: puts the table of all metrics between the
// markers of the document. check: says whether the document is as `write` would make it, whether the dashboard shows
// every metric, and whether every outbox_relay_ name in the dashboard and the rules exists. Markers, each on a line of
// its own:
// <!-- metrics: written by metrics_docs --> and <!-- end of metrics -->.
#include "relay/base/metrics.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define START  "<!-- metrics: written by metrics_docs -->\n"
#define END    "<!-- end of metrics -->\n"
#define PREFIX "outbox_relay_"

enum kind { COUNTER, GAUGE, HISTOGRAM, HISTOGRAM_ROWS };

static const struct {
    enum kind kind;
    const char *name, *labels, *help;
} table[METRIC_COUNT] = {
#define X(id, kind, name, labels, help) {kind, name, labels, help},
    RELAY_METRICS(X)
#undef X
};

static char *read_file(const char *path)
{
    FILE *file = fopen(path, "r");
    char *text = NULL;
    size_t room = 0;
    if (file == NULL || getdelim(&text, &room, '\0', file) < 0) {
        fprintf(stderr, "metrics_docs: %s: %s\n", path, file == NULL ? strerror(errno) : "is empty");
        free(text);
        text = NULL;
    }
    if (file != NULL) {
        fclose(file);
    }
    return text;
}

static void put_table(FILE *out)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram", "histogram"};
    fputs("| metric | kind | labels | what it says |\n|---|---|---|---|\n", out);
    for (int id = 0; id < METRIC_COUNT; id++) {
        fprintf(out, "| `" PREFIX "%s` | %s | ", table[id].name, kinds[table[id].kind]);
        for (const char *label = table[id].labels; *label != '\0';) {
            size_t length = strcspn(label, ",");
            fprintf(out, "`%.*s`%s", (int)length, label, label[length] == ',' ? ", " : "");
            label += length + (label[length] == ',');
        }
        fprintf(out, " | %s |\n", table[id].help);
    }
}

// The document with the table as the code has it. malloc'd; NULL: a marker is missing, which is said.
static char *make_document(const char *text)
{
    const char *start = strstr(text, START);
    const char *end = start == NULL ? NULL : strstr(start, END);
    if (end == NULL) {
        fputs("metrics_docs: the markers are missing\n", stderr);
        return NULL;
    }
    char *made = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&made, &length);
    if (out == NULL) {
        return NULL;
    }
    fwrite(text, 1, (size_t)(start - text) + strlen(START), out);
    put_table(out);
    fputs(end, out);
    return fclose(out) == 0 ? made : NULL;
}

static bool is_name_byte(char byte)
{
    return isalnum((unsigned char)byte) || byte == '_';
}

// Is this the name of a metric, or of a series of a histogram?
static bool exists(const char *name, size_t length)
{
    static const char *const suffixes[] = {"", "_bucket", "_sum", "_count"};
    for (int id = 0; id < METRIC_COUNT; id++) {
        size_t own = strlen(table[id].name);
        if (length < own || strncmp(name, table[id].name, own) != 0) {
            continue;
        }
        for (size_t i = 0; i < (table[id].kind >= HISTOGRAM ? 4 : 1); i++) {
            if (length - own == strlen(suffixes[i]) && strncmp(name + own, suffixes[i], length - own) == 0) {
                return true;
            }
        }
    }
    return false;
}

static bool names_exist(const char *path, const char *text)
{
    bool good = true;
    for (const char *at = text; (at = strstr(at, PREFIX)) != NULL;) {
        const char *name = at + strlen(PREFIX);
        size_t length = 0;
        while (is_name_byte(name[length])) {
            length++;
        }
        if (!exists(name, length)) {
            fprintf(stderr, "metrics_docs: %s: there is no metric " PREFIX "%.*s\n", path, (int)length, name);
            good = false;
        }
        at = name + length;
    }
    return good;
}

static bool shows_all(const char *path, const char *text)
{
    bool good = true;
    for (int id = 0; id < METRIC_COUNT; id++) {
        char name[128];
        snprintf(name, sizeof(name), PREFIX "%s", table[id].name);
        if (strstr(text, name) == NULL) {
            fprintf(stderr, "metrics_docs: %s: does not show %s\n", path, name);
            good = false;
        }
    }
    return good;
}

static bool write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    return file != NULL && fputs(text, file) >= 0 && fclose(file) == 0;
}

static bool check_document(const char *path, const char *text, const char *made)
{
    if (strcmp(text, made) != 0) {
        fprintf(stderr, "metrics_docs: %s differs from the code; `ninja metrics_docs` writes it anew\n", path);
        return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fputs("usage: metrics_docs write|check DOCUMENT DASHBOARD [RULES ...]\n", stderr);
        return 2;
    }
    bool writing = strcmp(argv[1], "write") == 0;
    char *text = read_file(argv[2]);
    char *made = text == NULL ? NULL : make_document(text);
    bool good = made != NULL && (writing ? write_file(argv[2], made) : check_document(argv[2], text, made));
    free(text);
    free(made);
    for (int i = 3; i < argc; i++) {
        text = read_file(argv[i]);
        good = text != NULL && names_exist(argv[i], text) && (i != 3 || shows_all(argv[i], text)) && good;
        free(text);
    }
    return good ? 0 : 1;
}
