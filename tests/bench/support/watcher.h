// SPDX-License-Identifier: Apache-2.0
//
// A consumer on a thread of its own that notes when each event becomes visible: events are known by the member "n" of
// their payload. Reads what is committed (isolation read_committed) from the end of the topics on, as it stood at the
// start. The sender notes when it was done with an event; whoever asks gets the differences. Times are bench_now().
#ifndef BENCH_WATCHER_H
#define BENCH_WATCHER_H

#include "support/bench_program.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <librdkafka/rdkafka.h>

struct watcher {
    // never change after watcher_start
    rd_kafka_t *client;
    uint64_t first;
    size_t count;
    pthread_t thread;
    // written by one thread each: the sender's, the watcher's
    double *sent_at, *seen_at; // 0: not yet
    // any thread
    atomic_size_t seen;
    atomic_bool stop;
};

// Events first .. first + count - 1. topics: names separated by commas. Returns when the consumer is in place.
void watcher_start(struct watcher *watcher, const struct relay_context *context, const char *topics, uint64_t first,
    size_t count);
void watcher_sent(struct watcher *watcher, size_t index, double at);
// Waits until all of them were seen or nothing has come for `patience` seconds; ends the thread.
void watcher_finish(struct watcher *watcher, double patience);
// The differences of events from index `skip` on; an event that was seen before its sender knew counts as 0.
void watcher_delays(const struct watcher *watcher, size_t skip, struct bench_samples *delays);

#endif
