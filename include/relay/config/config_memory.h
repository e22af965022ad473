// SPDX-License-Identifier: Apache-2.0
//
// Where a configuration lives: pieces are taken one by one and given back all together, wiped, since any of them may be
// part of a secret. Running out of memory is remembered, so that a loader asks once at its end instead of at each step.
// One thread at a time.
#ifndef RELAY_CONFIG_CONFIG_MEMORY_H
#define RELAY_CONFIG_CONFIG_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

struct config_memory;

struct config_memory *config_memory_new(void);                    // NULL: out of memory
void config_memory_free(struct config_memory *memory);            // accepts NULL; wipes
bool config_memory_exhausted(const struct config_memory *memory); // some piece could not be had
void config_memory_exhaust(struct config_memory *memory); // something that was to go with these could not be had

// Zeroed, aligned for any type; NULL when there is no memory.
void *config_memory_take(struct config_memory *memory, size_t size);
// A copy with a final NUL. Never NULL: an empty text when there is no memory, which nobody may write to.
char *config_memory_copy(struct config_memory *memory, const char *text, size_t length);
char *config_memory_text(struct config_memory *memory, const char *text);
char *config_memory_format(struct config_memory *memory, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
