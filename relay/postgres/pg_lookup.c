// SPDX-License-Identifier: Apache-2.0
#include "relay/postgres/pg_lookup.h"

#include "relay/base/thread.h"

#include <errno.h>
#include <netdb.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

// Shared with the thread: who leaves last frees it.
struct pg_lookup {
    atomic_int holders;
    char *name;
    int done;
    atomic_bool answered; // what follows is the thread's before, and the asker's afterwards
    int failure;          // of getaddrinfo()
    int failure_errno;    // with EAI_SYSTEM
    struct addrinfo *found;
};

static void dispose(struct pg_lookup *lookup)
{
    if (lookup->found != NULL) {
        freeaddrinfo(lookup->found);
    }
    if (lookup->done >= 0) {
        close(lookup->done);
    }
    free(lookup->name);
    free(lookup);
}

void pg_lookup_leave(struct pg_lookup *lookup)
{
    if (atomic_fetch_sub(&lookup->holders, 1) == 1) {
        dispose(lookup);
    }
}

static void *run(void *argument)
{
    struct pg_lookup *lookup = argument;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    lookup->failure = getaddrinfo(lookup->name, NULL, &hints, &lookup->found);
    lookup->failure_errno = errno;
    atomic_store(&lookup->answered, true);
    eventfd_write(lookup->done, 1); // cannot fail: the counter is at 0
    pg_lookup_leave(lookup);
    return NULL;
}

struct pg_lookup *pg_lookup_start(const char *name, struct relay_error *error)
{
    pthread_t thread;
    struct pg_lookup *lookup = calloc(1, sizeof(*lookup));
    if (lookup == NULL) {
        error_no_memory(error, "looking up a host");
        return NULL;
    }
    atomic_init(&lookup->holders, 2);
    lookup->name = strdup(name);
    lookup->done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (lookup->name == NULL) {
        error_no_memory(error, "looking up a host");
    } else if (lookup->done < 0) {
        error_set_detail(error, RELAY_ERROR_SYSTEM, errno, "looking up a host: eventfd: %s", strerror(errno));
    } else if (thread_start(&thread, "lookup", run, lookup, error)) {
        pthread_detach(thread);
        return lookup;
    }
    dispose(lookup);
    return NULL;
}

int pg_lookup_fd(const struct pg_lookup *lookup)
{
    return lookup->done;
}

char *pg_lookup_take(struct pg_lookup *lookup, struct relay_error *error)
{
    if (!atomic_load(&lookup->answered) || lookup->failure != 0) {
        error_set(error, RELAY_ERROR_POSTGRES_UNREACHABLE, "the name \"%s\" cannot be resolved: %s", lookup->name,
            lookup->failure == EAI_SYSTEM ? strerror(lookup->failure_errno) : gai_strerror(lookup->failure));
        return NULL;
    }
    char *list = NULL;
    size_t size = 0;
    FILE *memory = open_memstream(&list, &size);
    const char *comma = "";
    for (const struct addrinfo *at = lookup->found; at != NULL && memory != NULL; at = at->ai_next) {
        char number[NI_MAXHOST];
        if (getnameinfo(at->ai_addr, at->ai_addrlen, number, sizeof(number), NULL, 0, NI_NUMERICHOST) == 0) {
            fprintf(memory, "%s%s", comma, number);
            comma = ",";
        }
    }
    if (memory == NULL || fclose(memory) != 0) {
        free(list);
        error_no_memory(error, "a host's addresses");
        return NULL;
    }
    return list;
}
