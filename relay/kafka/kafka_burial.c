// SPDX-License-Identifier: Apache-2.0
#include "relay/kafka/kafka_burial.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#define SLICE DURATION_MS(100)

// The thread that destroys a client, and who waits for it: whoever comes last frees this.
struct burial {
    rd_kafka_t *client;
    struct kafka_estate estate;
    sem_t done;
    atomic_int holders;
};

static void leave_burial(struct burial *burial)
{
    if (atomic_fetch_sub(&burial->holders, 1) == 1) {
        sem_destroy(&burial->done);
        free(burial);
    }
}

static void destroy(rd_kafka_t *client, struct kafka_estate estate)
{
    rd_kafka_destroy_flags(client, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    if (estate.release != NULL) {
        estate.release(estate.what);
    }
}

static void *bury(void *argument)
{
    struct burial *burial = argument;
    destroy(burial->client, burial->estate);
    sem_post(&burial->done);
    leave_burial(burial);
    return NULL;
}

// NULL: nothing has been done.
static struct burial *begin(rd_kafka_t *client, struct kafka_estate estate)
{
    pthread_t thread;
    struct burial *burial = calloc(1, sizeof(*burial));
    if (burial == NULL) {
        return NULL;
    }
    burial->client = client;
    burial->estate = estate;
    sem_init(&burial->done, 0, 0);
    atomic_init(&burial->holders, 2);
    if (pthread_create(&thread, NULL, bury, burial) != 0) {
        sem_destroy(&burial->done);
        free(burial);
        return NULL;
    }
    pthread_detach(thread);
    return burial;
}

static bool done_until(struct burial *burial, struct mono_time until)
{
    struct timespec at = {.tv_sec = until.ns / 1000000000, .tv_nsec = until.ns % 1000000000};
    int waited;
    while ((waited = sem_clockwait(&burial->done, CLOCK_MONOTONIC, &at)) != 0 && errno == EINTR) {
    }
    return waited == 0;
}

bool kafka_client_destroy_until(rd_kafka_t *client, struct mono_time deadline)
{
    struct burial *burial = begin(client, (struct kafka_estate){0});
    bool done = burial != NULL && done_until(burial, deadline);
    if (burial != NULL) {
        leave_burial(burial);
    }
    return done;
}

bool kafka_client_bury(rd_kafka_t *client, struct kafka_estate estate, struct kafka_tick tick,
    struct mono_time deadline)
{
    struct burial *burial = begin(client, estate);
    if (burial == NULL) {
        destroy(client, estate);
        return true;
    }
    bool done = false, last = false;
    while (!done && !last) {
        struct mono_time slice = mono_add(clock_mono(clock_system()), SLICE);
        last = !mono_before(slice, deadline);
        done = done_until(burial, last ? deadline : slice);
        if (tick.function != NULL) {
            tick.function(tick.context);
        }
    }
    leave_burial(burial);
    return done;
}
