// SPDX-License-Identifier: Apache-2.0
#include "fault_alloc.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local long countdown = -1; // below 0: off
static _Thread_local bool hit;
static _Thread_local bool pausing;
static _Thread_local size_t live;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *at, size_t size);
void __real_free(void *at);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *at, size_t size);
void *__wrap_reallocarray(void *at, size_t count, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t length);
int __wrap_asprintf(char **to, const char *format, ...) __attribute__((format(printf, 2, 3)));
int __wrap___asprintf_chk(char **to, int flag, const char *format, ...) __attribute__((format(printf, 3, 4)));
void __wrap_free(void *at);

void fault_alloc_fail_at(long n)
{
    hit = false;
    countdown = n;
}

bool fault_alloc_off(void)
{
    countdown = -1;
    return hit;
}

void fault_alloc_pause(bool paused)
{
    pausing = paused;
}

size_t fault_alloc_live(void)
{
    return live;
}

static bool fails(void)
{
    if (pausing || countdown < 0 || countdown-- > 0) {
        return false;
    }
    hit = true;
    errno = ENOMEM;
    return true;
}

static void *count(void *at)
{
    if (at && !pausing) {
        live++;
    }
    return at;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : count(__real_malloc(size));
}

void *__wrap_calloc(size_t number, size_t size)
{
    return fails() ? NULL : count(__real_calloc(number, size));
}

void *__wrap_realloc(void *at, size_t size)
{
    if (fails()) {
        return NULL;
    }
    void *moved = __real_realloc(at, size);
    return at ? moved : count(moved);
}

void *__wrap_reallocarray(void *at, size_t number, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(number, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    return __wrap_realloc(at, bytes);
}

char *__wrap_strndup(const char *text, size_t length)
{
    size_t used = strnlen(text, length);
    char *copy = __wrap_malloc(used + 1);
    if (copy) {
        memcpy(copy, text, used);
        copy[used] = '\0';
    }
    return copy;
}

char *__wrap_strdup(const char *text)
{
    return __wrap_strndup(text, strlen(text));
}

static char *format_text(const char *format, va_list arguments, int *length)
{
    va_list again;
    va_copy(again, arguments);
    *length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    char *text = *length < 0 ? NULL : __wrap_malloc((size_t)*length + 1);
    if (text) {
        vsnprintf(text, (size_t)*length + 1, format, arguments);
    }
    return text;
}

int __wrap_asprintf(char **to, const char *format, ...)
{
    int length;
    va_list arguments;
    va_start(arguments, format);
    *to = format_text(format, arguments, &length);
    va_end(arguments);
    return *to ? length : -1;
}

// What asprintf becomes under _FORTIFY_SOURCE.
int __wrap___asprintf_chk(char **to, int flag, const char *format, ...)
{
    int length;
    va_list arguments;
    (void)flag;
    va_start(arguments, format);
    *to = format_text(format, arguments, &length);
    va_end(arguments);
    return *to ? length : -1;
}

void __wrap_free(void *at)
{
    if (at && !pausing) {
        live--;
    }
    __real_free(at);
}
