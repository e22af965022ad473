// SPDX-License-Identifier: Apache-2.0
#include "slow_resolver.h"

#include <dlfcn.h>
#include <netdb.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

static sem_t was_asked, may_answer;
static atomic_int inside;
static _Atomic(const char *) held;
static void (*tell)(void *context);
static void *tell_context;

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    static int (*real)(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found);
    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    const char *too = atomic_load(&held);
    if (node == NULL || (strcmp(node, "slow.test") != 0 && (too == NULL || strcmp(node, too) != 0))) {
        return real(node, service, hints, found);
    }
    atomic_fetch_add(&inside, 1);
    if (tell != NULL) {
        tell(tell_context);
    }
    sem_post(&was_asked);
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 15;
    sem_timedwait(&may_answer, &until);
    atomic_fetch_sub(&inside, 1);
    return EAI_AGAIN;
}

void slow_resolver_start(void (*asked)(void *context), void *context)
{
    sem_init(&was_asked, 0, 0);
    sem_init(&may_answer, 0, 0);
    tell = asked;
    tell_context = context;
}

void slow_resolver_hold(const char *name)
{
    atomic_store(&held, name);
}

void slow_resolver_wait_asked(void)
{
    while (sem_wait(&was_asked) != 0) {
    }
}

int slow_resolver_hanging(void)
{
    return atomic_load(&inside);
}

void slow_resolver_end(void)
{
    atomic_store(&held, NULL);
    while (slow_resolver_hanging() > 0) {
        sem_post(&may_answer);
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
}
