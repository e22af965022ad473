// SPDX-License-Identifier: Apache-2.0
//
// Any bytes as the metadata of a committed offset: a note that is taken out of it is refused with an error or says the
// same when it is written and read again.
#include "relay/insert/view_note.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define ROUTE 0x1234abcd

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void compare(const struct view_note *note, const struct view_note *again)
{
    assert(note->route == again->route && note->sent == again->sent && note->rows == again->rows);
    assert(strcmp(note->token, again->token) == 0 && note->run_count == again->run_count);
    for (size_t i = 0; i < note->run_count; i++) {
        const struct view_run *a = &note->runs[i], *b = &again->runs[i];
        assert(strcmp(a->topic, b->topic) == 0 && a->partition == b->partition);
        assert(a->first == b->first && a->last == b->last && a->first <= a->last && a->first >= 0);
    }
}

static void read_line(const char *line)
{
    struct view_note note, again;
    struct relay_error error;
    if (!view_note_parse(line, &note, &error)) {
        assert(error.code == RELAY_ERROR_PROTOCOL);
        view_note_finish(&note);
        return;
    }
    assert(note.run_count > 0 && note.token[0] != '\0');
    char *written = view_note_write(&note, &error);
    if (!written) {
        assert(error.code == RELAY_ERROR_CONFIG); // longer than any that we write
    } else {
        assert(strlen(written) <= VIEW_NOTE_MOST && view_note_parse(written, &again, &error));
        compare(&note, &again);
        view_note_finish(&again);
    }
    free(written);
    view_note_finish(&note);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *metadata = malloc(size ? size : 1); // of exactly this size, so that reading past it is seen
    assert(metadata);
    memcpy(metadata, data, size);
    char *line = view_note_pick(metadata, size, ROUTE);
    if (line) {
        read_line(line);
    }
    free(line);
    free(metadata);
    return 0;
}
