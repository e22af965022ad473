// SPDX-License-Identifier: Apache-2.0
//
// reason_docs EVENTS ROUTES EXAMPLE: every reason for a dead letter of the publish stage is a row of the table of
// reasons in the first document, every one of the insert stage in the second, and these tables name no other; nor does
// the example of a dead letter as a message.
#include "relay/insert/encode_reason.h"
#include "relay/publish/publish_reason.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REASONS_MAX 64

struct list {
    const char *words[REASONS_MAX]; // without that of "none"
    size_t count;
};

static bool holds(const struct list *list, const char *word, size_t length)
{
    for (size_t i = 0; i < list->count; i++) {
        if (strlen(list->words[i]) == length && memcmp(list->words[i], word, length) == 0) {
            return true;
        }
    }
    return false;
}

// The words in backticks of a row's first cell.
static bool check_row(const char *path, const char *row, const struct list *known, bool *seen)
{
    bool good = true;
    const char *end = strchr(row + 1, '|');
    for (const char *at = strchr(row, '`'); at != NULL && end != NULL && at < end; at = strchr(at, '`')) {
        size_t length = strcspn(++at, "`");
        for (size_t i = 0; i < known->count; i++) {
            seen[i] = seen[i] || (strlen(known->words[i]) == length && memcmp(known->words[i], at, length) == 0);
        }
        if (!holds(known, at, length)) {
            fprintf(stderr, "%s: `%.*s` is no reason\n", path, (int)length, at);
            good = false;
        }
        at += length + 1;
    }
    return good;
}

static bool check(const char *path, const struct list *known)
{
    bool seen[REASONS_MAX] = {false}, good = true, inside = false;
    char *line = NULL;
    size_t room = 0;
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return false;
    }
    while (getline(&line, &room, file) >= 0) {
        inside = strncmp(line, "| reason |", 10) == 0 || (inside && line[0] == '|');
        good = (!inside || check_row(path, line, known, seen)) && good;
    }
    free(line);
    fclose(file);
    for (size_t i = 0; i < known->count; i++) {
        if (!seen[i]) {
            fprintf(stderr, "%s: `%s` is not in the table of reasons\n", path, known->words[i]);
            good = false;
        }
    }
    return good;
}

static bool check_example(const char *path, const struct list *known)
{
    static const char member[] = "\"dlq.reason\": \"";
    char text[8192] = "";
    FILE *file = fopen(path, "r");
    size_t length = file == NULL ? 0 : fread(text, 1, sizeof(text) - 1, file);
    if (file != NULL) {
        fclose(file);
    }
    text[length] = '\0';
    const char *at = strstr(text, member);
    if (at == NULL || !holds(known, at + strlen(member), strcspn(at + strlen(member), "\""))) {
        fprintf(stderr, "%s: no dlq.reason that there is\n", path);
        return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: reason_docs EVENTS ROUTES EXAMPLE\n");
        return 2;
    }
    struct list publish = {.count = 0}, insert = {.count = 0};
    for (unsigned i = PUBLISH_REASON_NONE + 1; i < PUBLISH_REASON_COUNT; i++) {
        publish.words[publish.count++] = publish_reason_name((enum publish_reason)i);
    }
    for (unsigned i = ENCODE_NONE + 1; i < ENCODE_REASON_COUNT; i++) {
        insert.words[insert.count++] = encode_reason_name((enum encode_reason)i);
    }
    bool good = check(argv[1], &publish);
    good = check(argv[2], &insert) && good;
    return check_example(argv[3], &insert) && good ? 0 : 1;
}
