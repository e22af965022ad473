// SPDX-License-Identifier: Apache-2.0
//
// Arrays as PostgreSQL reads them in a parameter: {1,2,3}, {"a","b"}. Texts are malloc'd; NULL: out of memory. Any
// thread.
#ifndef RELAY_POSTGRES_PG_ARRAY_H
#define RELAY_POSTGRES_PG_ARRAY_H

#include <stddef.h>
#include <stdint.h>

// Of every `step`-th of numbers, so many of them.
char *pg_array_of_numbers(const int64_t *numbers, size_t count, size_t step);
char *pg_array_of_texts(char *const *texts, size_t count);

#endif
