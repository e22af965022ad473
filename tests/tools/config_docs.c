// SPDX-License-Identifier: Apache-2.0
//
// config_docs write|check docs/configuration.md deploy/outbox-relay.ini
// write: puts the tables of all keys between the markers of the document, and writes the sample file anew. check: says
// whether both are as `write` would make them, so that neither can differ from the code. Markers, each on a line of its
// own:
// <!-- keys of SECTION: written by config_docs --> and <!-- end of keys -->; one pair for each section.
// config_docs examples DOCUMENT...
// loads every ```ini block of the documents. The servers come from the environment, so that an example may show a part.
#include "relay/config/config.h"
#include "relay/config/config_docs.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define START      "<!-- keys of "
#define START_REST ": written by config_docs -->\n"
#define END        "<!-- end of keys -->\n"

static char *read_file(const char *path)
{
    FILE *file = fopen(path, "r");
    char *text = NULL;
    size_t room = 0;
    if (file == NULL || getdelim(&text, &room, '\0', file) < 0) {
        fprintf(stderr, "config_docs: %s: %s\n", path, file == NULL ? strerror(errno) : "is empty");
        free(text);
        text = NULL;
    }
    if (file != NULL) {
        fclose(file);
    }
    return text;
}

// The document with its tables as the code has them. false: a marker is missing or wrong, which is said.
static bool put_document(FILE *out, const char *text)
{
    bool seen[CONFIG_SECTIONS] = {false};
    for (const char *start; (start = strstr(text, START)) != NULL;) {
        const char *name = start + strlen(START);
        size_t length = strcspn(name, ":\n");
        enum config_section_id section = config_section_find(name, length);
        const char *table = name + length + strlen(START_REST);
        const char *end = strstr(name, END);
        if (section == CONFIG_SECTIONS || strncmp(name + length, START_REST, strlen(START_REST)) != 0 || end == NULL) {
            fprintf(stderr, "config_docs: a broken marker: %.60s\n", start);
            return false;
        }
        seen[section] = true;
        fwrite(text, 1, (size_t)(table - text), out);
        config_docs_table(out, section);
        text = end;
        fputs(END, out);
        text += strlen(END);
    }
    fputs(text, out);
    bool all = true;
    for (int id = 0; id < CONFIG_SECTIONS; id++) {
        if (!seen[id]) {
            fprintf(stderr, "config_docs: the document has no table of [%s]\n", config_sections[id].name);
            all = false;
        }
    }
    return all;
}

static bool put_sample(FILE *out, const char *text)
{
    (void)text;
    config_docs_sample(out);
    return true;
}

// Where two texts part, as a line number.
static size_t first_difference(const char *a, const char *b)
{
    size_t line = 1;
    for (; *a != '\0' && *a == *b; a++, b++) {
        line += *a == '\n';
    }
    return line;
}

static bool treat(bool write, const char *path, bool (*put)(FILE *out, const char *text), bool must_be_there)
{
    char *text = must_be_there || !write ? read_file(path) : strdup("");
    char *wanted = NULL;
    size_t length = 0;
    FILE *stream = text == NULL ? NULL : open_memstream(&wanted, &length);
    bool good = stream != NULL && put(stream, text);
    good = (stream == NULL || fclose(stream) == 0) && good;
    if (good && write) {
        FILE *file = fopen(path, "w");
        good = file != NULL && fputs(wanted, file) >= 0;
        good = (file != NULL && fclose(file) == 0) && good;
    } else if (good && strcmp(text, wanted) != 0) {
        fprintf(stderr,
            "config_docs: %s differs from the table of keys, first in line %zu; run: ninja -C build config_docs\n",
            path, first_difference(text, wanted));
        good = false;
    }
    free(wanted);
    free(text);
    return good;
}

// The block [text, text + length), as a file.
static bool try_example(const char *document, size_t line, const char *text, size_t length)
{
    char path[] = "/tmp/config-docs-XXXXXX";
    int descriptor = mkstemp(path);
    if (descriptor < 0 || write(descriptor, text, length) != (ssize_t)length) {
        perror("config_docs");
        return false;
    }
    close(descriptor);
    char *mistakes = NULL;
    struct relay_error error = {0};
    struct config *config = config_load(path, &mistakes, &error);
    bool good = config != NULL;
    if (!good) {
        fprintf(stderr, "config_docs: the example in line %zu of %s: %s\n%s", line, document, error.text,
            mistakes == NULL ? "" : mistakes);
    }
    config_free(config);
    free(mistakes);
    unlink(path);
    return good;
}

static bool try_examples(const char *path)
{
    static const char fence[] = "\n```ini\n";
    char *text = read_file(path);
    bool good = text != NULL;
    for (const char *at = text; at != NULL && (at = strstr(at, fence)) != NULL;) {
        const char *start = at + strlen(fence);
        const char *end = strstr(start, "\n```\n");
        size_t line = 1;
        for (const char *before = text; before < start; before++) {
            line += *before == '\n';
        }
        good = end != NULL && try_example(path, line, start, (size_t)(end + 1 - start)) && good;
        at = end;
    }
    free(text);
    return good;
}

static int examples(char **paths)
{
    // They win over what an example says, so that its files need not be there.
    setenv("OUTBOX_RELAY_POSTGRES_DSN", "host=db", 1);
    setenv("OUTBOX_RELAY_POSTGRES_PASSWORD", "x", 1);
    setenv("OUTBOX_RELAY_KAFKA_BOOTSTRAP_SERVERS", "kafka:9092", 1);
    setenv("OUTBOX_RELAY_KAFKA_SASL_PASSWORD", "x", 1);
    setenv("OUTBOX_RELAY_KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET", "x", 1);
    setenv("OUTBOX_RELAY_CLICKHOUSE_URL", "http://clickhouse:8123", 1);
    setenv("OUTBOX_RELAY_CLICKHOUSE_PASSWORD", "x", 1);
    setenv("OUTBOX_RELAY_CLICKHOUSE_CA_FILE", "", 1);
    setenv("OUTBOX_RELAY_ALERT_CA_FILE", "", 1);
    bool good = true;
    for (; *paths != NULL; paths++) {
        good = try_examples(*paths) && good;
    }
    return good ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[1], "examples") == 0) {
        return examples(argv + 2);
    }

    if (argc != 4 || (strcmp(argv[1], "write") != 0 && strcmp(argv[1], "check") != 0)) {
        fprintf(stderr, "usage: config_docs write|check DOCUMENT SAMPLE, or config_docs examples DOCUMENT...\n");
        return 2;
    }
    bool write = strcmp(argv[1], "write") == 0;
    bool good = treat(write, argv[2], put_document, true);
    good = treat(write, argv[3], put_sample, false) && good;
    return good ? 0 : 1;
}
