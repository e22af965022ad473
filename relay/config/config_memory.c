// SPDX-License-Identifier: Apache-2.0
#include "relay/config/config_memory.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct piece {
    struct piece *next;
    size_t size;
    max_align_t bytes[];
};

struct config_memory {
    struct piece *pieces;
    bool exhausted;
};

struct config_memory *config_memory_new(void)
{
    return calloc(1, sizeof(struct config_memory));
}

void config_memory_free(struct config_memory *memory)
{
    if (memory == NULL) {
        return;
    }
    for (struct piece *piece = memory->pieces; piece != NULL;) {
        struct piece *next = piece->next;
        explicit_bzero(piece->bytes, piece->size);
        free(piece);
        piece = next;
    }
    free(memory);
}

bool config_memory_exhausted(const struct config_memory *memory)
{
    return memory->exhausted;
}

void config_memory_exhaust(struct config_memory *memory)
{
    memory->exhausted = true;
}

void *config_memory_take(struct config_memory *memory, size_t size)
{
    struct piece *piece = calloc(1, sizeof(*piece) + size);
    if (piece == NULL) {
        memory->exhausted = true;
        return NULL;
    }
    piece->size = size;
    piece->next = memory->pieces;
    memory->pieces = piece;
    return piece->bytes;
}

char *config_memory_copy(struct config_memory *memory, const char *text, size_t length)
{
    static char nothing[] = "";
    char *copy = config_memory_take(memory, length + 1);
    if (copy == NULL) {
        return nothing;
    }
    memcpy(copy, text, length);
    return copy;
}

char *config_memory_text(struct config_memory *memory, const char *text)
{
    return config_memory_copy(memory, text, strlen(text));
}

char *config_memory_format(struct config_memory *memory, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    char *text = config_memory_copy(memory, "", 0);
    char *room = length < 0 ? NULL : config_memory_take(memory, (size_t)length + 1);
    if (room != NULL) {
        vsnprintf(room, (size_t)length + 1, format, again);
        text = room;
    }
    va_end(again);
    return text;
}
