// SPDX-License-Identifier: Apache-2.0
//
// Empty unless -Dtest_hooks=true. The environment is read once, at the first pass; the process ends by SIGKILL, so that
// no handler, buffer or destructor softens the crash.
#include "relay/base/test_points.h"

#ifdef RELAY_TEST_HOOKS
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const point_names[] = {
#define X(id, name) name,
    RELAY_TEST_POINTS(X)
#undef X
};
static const char *const safeguard_names[] = {
#define X(id, name) name,
    RELAY_SAFEGUARDS(X)
#undef X
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int crash_point = -1;
static atomic_int passes_left;
static bool disabled[SAFEGUARD_COUNT];

static bool listed(const char *list, const char *name)
{
    size_t length = strlen(name);
    for (const char *at = list; at != NULL && *at != '\0'; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, name, length) == 0 && (at[length] == '\0' || at[length] == ',')) {
            return true;
        }
    }
    return false;
}

static void read_environment(void)
{
    const char *wanted = getenv("OUTBOX_RELAY_CRASH_AT");
    for (int i = 0; wanted != NULL && i < TEST_POINT_COUNT; i++) {
        size_t length = strlen(point_names[i]);
        if (strncmp(wanted, point_names[i], length) == 0 && (wanted[length] == ':' || wanted[length] == '\0')) {
            crash_point = i;
            passes_left = wanted[length] == ':' ? (int)strtol(wanted + length + 1, NULL, 10) : 1;
        }
    }
    const char *without = getenv("OUTBOX_RELAY_DISABLE_SAFEGUARD");
    for (int i = 0; i < SAFEGUARD_COUNT; i++) {
        disabled[i] = listed(without, safeguard_names[i]);
    }
}

void test_point_pass(enum test_point point)
{
    pthread_once(&once, read_environment);
    if ((int)point == crash_point && atomic_fetch_sub(&passes_left, 1) == 1) {
        kill(getpid(), SIGKILL);
        pause();
    }
}

bool safeguard_active(enum safeguard safeguard)
{
    pthread_once(&once, read_environment);
    return !disabled[safeguard];
}

void test_points_print(void)
{
    for (int i = 0; i < TEST_POINT_COUNT; i++) {
        puts(point_names[i]);
    }
}
#else
// ISO C wants a translation unit to declare something.
typedef int test_points_are_compiled_out;
#endif
