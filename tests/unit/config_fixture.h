// SPDX-License-Identifier: Apache-2.0
//
// Loads configurations from texts. For tests of one process each (criterion), so state is static.
#ifndef TESTS_UNIT_CONFIG_FIXTURE_H
#define TESTS_UNIT_CONFIG_FIXTURE_H

#include "relay/config/config.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// What a configuration cannot do without.
#define MINIMAL "[postgres]\ndsn = host=db\n[kafka]\nbootstrap.servers = k:9092\n[clickhouse]\nurl = http://c:8123\n"

static char *mistakes;           // of the last load; NULL: none
static struct relay_error error; // of the last load

// A file with these bytes; the caller unlinks it. The name is valid until the third call from now.
static inline char *make_file(const char *bytes, size_t length)
{
    static char paths[4][32];
    static int turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof(paths[0]), "/tmp/relay-config-XXXXXX");
    int descriptor = mkstemp(path);
    cr_assert(descriptor >= 0);
    cr_assert_eq(write(descriptor, bytes, length), (ssize_t)length);
    close(descriptor);
    return path;
}

static inline struct config *load_path(const char *path)
{
    free(mistakes);
    mistakes = NULL;
    error_clear(&error);
    struct config *config = config_load(path, &mistakes, &error);
    cr_assert((config == NULL) == (error.code != RELAY_ERROR_NONE));
    return config;
}

static inline struct config *load_bytes(const char *bytes, size_t length)
{
    char *path = make_file(bytes, length);
    struct config *config = load_path(path);
    unlink(path);
    return config;
}

static inline struct config *load_good(const char *text)
{
    struct config *config = load_bytes(text, strlen(text));
    cr_assert_not_null(config, "%s\n%s", error.text, mistakes);
    cr_assert_null(mistakes);
    return config;
}

static inline size_t mistake_count(void)
{
    size_t count = 0;
    for (const char *at = mistakes; at != NULL && *at != '\0'; at++) {
        count += *at == '\n';
    }
    return count;
}

// The text has exactly one mistake, which says this.
static inline void assert_mistake(const char *text, const char *part)
{
    struct config *config = load_bytes(text, strlen(text));
    cr_assert_null(config, "loaded; expected: %s", part);
    cr_assert_eq(error.code, RELAY_ERROR_CONFIG);
    cr_assert(mistakes != NULL && strstr(mistakes, part) != NULL, "expected: %s\ngot: %s", part, mistakes);
    cr_assert_eq(mistake_count(), 1, "expected only: %s\ngot: %s", part, mistakes);
}

#endif
