// SPDX-License-Identifier: Apache-2.0
//
// See watcher.h.
#include "support/watcher.h"

#include "relay/kafka/kafka_conf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The number after "n": in the payload, which stands at its beginning; UINT64_MAX where there is none.
static uint64_t number_of(const rd_kafka_message_t *message)
{
    static const char mark[] = "\"n\": ";
    const char *found = message->payload == NULL ? NULL
                                                 : memmem(message->payload, message->len, mark, sizeof(mark) - 1);
    if (found == NULL) {
        return UINT64_MAX;
    }
    uint64_t number = 0;
    const char *end = (const char *)message->payload + message->len;
    for (const char *at = found + sizeof(mark) - 1; at < end && *at >= '0' && *at <= '9'; at++) {
        number = number * 10 + (uint64_t)(*at - '0');
    }
    return number;
}

static void *watch(void *context)
{
    struct watcher *watcher = context;
    while (!atomic_load(&watcher->stop)) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(watcher->client, 50);
        if (message == NULL) {
            continue;
        }
        double now = bench_now();
        uint64_t index = message->err == RD_KAFKA_RESP_ERR_NO_ERROR ? number_of(message) - watcher->first : UINT64_MAX;
        if (index < watcher->count && watcher->seen_at[index] == 0) {
            watcher->seen_at[index] = now;
            atomic_fetch_add(&watcher->seen, 1);
        }
        rd_kafka_message_destroy(message);
    }
    return NULL;
}

static void add_topic(rd_kafka_t *client, const char *name, rd_kafka_topic_partition_list_t *list)
{
    rd_kafka_topic_t *topic = rd_kafka_topic_new(client, name, NULL);
    const struct rd_kafka_metadata *metadata;
    rd_kafka_resp_err_t failed = rd_kafka_metadata(client, 0, topic, &metadata, 30000);
    if (failed != RD_KAFKA_RESP_ERR_NO_ERROR || metadata->topic_cnt != 1 || metadata->topics[0].partition_cnt == 0) {
        bench_fail("topic %s is not there", name);
    }
    for (int p = 0; p < metadata->topics[0].partition_cnt; p++) {
        int64_t low, high;
        failed = rd_kafka_query_watermark_offsets(client, name, p, &low, &high, 30000);
        if (failed != RD_KAFKA_RESP_ERR_NO_ERROR) {
            bench_fail("topic %s: %s", name, rd_kafka_err2str(failed));
        }
        rd_kafka_topic_partition_list_add(list, name, p)->offset = high;
    }
    rd_kafka_metadata_destroy(metadata);
    rd_kafka_topic_destroy(topic);
}

void watcher_start(struct watcher *watcher, const struct relay_context *context, const char *topics, uint64_t first,
    size_t count)
{
    struct relay_error error;
    *watcher = (struct watcher){.first = first,
        .count = count,
        .sent_at = calloc(count, sizeof(double)),
        .seen_at = calloc(count, sizeof(double))};
    char *names = strdup(topics), *rest = NULL;
    rd_kafka_conf_t *conf = kafka_conf_new(context, KAFKA_CLIENT_CONSUMER, "watcher", &error);
    bench_must(conf != NULL, "consumer", &error);
    bool set = kafka_conf_set(conf, "group.id", "outbox-relay-bench-watcher", &error) &&
        kafka_conf_set(conf, "enable.auto.commit", "false", &error) &&
        kafka_conf_set(conf, "isolation.level", "read_committed", &error);
    bench_must(set, "consumer", &error);
    watcher->client = kafka_client_new(KAFKA_CLIENT_CONSUMER, conf, &error);
    bench_must(watcher->client != NULL, "consumer", &error);
    rd_kafka_poll_set_consumer(watcher->client);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(8);
    for (char *name = strtok_r(names, ",", &rest); name != NULL; name = strtok_r(NULL, ",", &rest)) {
        add_topic(watcher->client, name, list);
    }
    rd_kafka_assign(watcher->client, list);
    rd_kafka_topic_partition_list_destroy(list);
    free(names);
    if (pthread_create(&watcher->thread, NULL, watch, watcher) != 0) {
        bench_fail("cannot start a thread");
    }
}

void watcher_sent(struct watcher *watcher, size_t index, double at)
{
    watcher->sent_at[index] = at;
}

void watcher_finish(struct watcher *watcher, double patience)
{
    size_t before = 0;
    double since = bench_now();
    while (atomic_load(&watcher->seen) < watcher->count && bench_now() - since < patience) {
        size_t now = atomic_load(&watcher->seen);
        since = now != before ? bench_now() : since;
        before = now;
        bench_sleep_until(bench_now() + 0.02);
    }
    atomic_store(&watcher->stop, true);
    pthread_join(watcher->thread, NULL);
    rd_kafka_consumer_close(watcher->client);
    rd_kafka_destroy(watcher->client);
}

void watcher_delays(const struct watcher *watcher, size_t skip, struct bench_samples *delays)
{
    for (size_t i = skip; i < watcher->count; i++) {
        if (watcher->sent_at[i] != 0 && watcher->seen_at[i] != 0) {
            double delay = watcher->seen_at[i] - watcher->sent_at[i];
            bench_samples_add(delays, delay > 0 ? delay : 0);
        }
    }
}
