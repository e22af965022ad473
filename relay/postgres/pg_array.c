// SPDX-License-Identifier: Apache-2.0
#include "relay/postgres/pg_array.h"

#include <stdio.h>
#include <stdlib.h>

// By hand and not through a stream: the batches' lists have thousands of numbers.
char *pg_array_of_numbers(const int64_t *numbers, size_t count, size_t step)
{
    size_t room = count * 21 + 3;
    char *text = malloc(room), *at = text;
    if (text == NULL) {
        return NULL;
    }
    *at++ = '{';
    for (size_t i = 0; i < count; i++) {
        at += snprintf(at, room - (size_t)(at - text), i == 0 ? "%lld" : ",%lld", (long long)numbers[i * step]);
    }
    *at++ = '}';
    *at = '\0';
    return text;
}

char *pg_array_of_texts(char *const *texts, size_t count)
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    if (out == NULL) {
        return NULL;
    }
    fputc('{', out);
    for (size_t i = 0; i < count; i++) {
        fputs(i == 0 ? "\"" : ",\"", out);
        for (const char *at = texts[i]; *at != '\0'; at++) {
            fprintf(out, *at == '"' || *at == '\\' ? "\\%c" : "%c", *at);
        }
        fputc('"', out);
    }
    fputc('}', out);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
