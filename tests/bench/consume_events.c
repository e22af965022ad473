// SPDX-License-Identifier: Apache-2.0
//
// What the insert stage takes out of Kafka, taken by librdkafka alone and thrown away: every partition from its
// beginning to where it ends now, committed records only, with the relay's own settings.
#include "support/bench_program.h"
#include "support/event_maker.h"
#include "relay/kafka/kafka_conf.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char usage[] = "consume_events --config FILE --prefix PREFIX --rows N [--topics N]";
static const char *const options[] = {"--config", "--prefix", "--rows", "--topics", NULL};

static rd_kafka_t *open_consumer(const struct relay_context *context)
{
    struct relay_error error;
    rd_kafka_conf_t *conf = kafka_conf_new(context, KAFKA_CLIENT_CONSUMER, "bench", &error);
    bench_must(conf != NULL, "consumer", &error);
    bool set = kafka_conf_set(conf, "group.id", "outbox-relay-bench-discard", &error) &&
        kafka_conf_set(conf, "enable.auto.commit", "false", &error) &&
        kafka_conf_set(conf, "isolation.level", "read_committed", &error);
    bench_must(set, "consumer", &error);
    rd_kafka_t *client = kafka_client_new(KAFKA_CLIENT_CONSUMER, conf, &error);
    bench_must(client != NULL, "consumer", &error);
    rd_kafka_poll_set_consumer(client);
    return client;
}

static void assign_all(rd_kafka_t *client, const char *prefix, unsigned topics)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(8);
    for (unsigned i = 0; i < topics; i++) {
        char name[256];
        event_topic_name(prefix, i, name, sizeof(name));
        rd_kafka_topic_t *topic = rd_kafka_topic_new(client, name, NULL);
        const struct rd_kafka_metadata *metadata;
        rd_kafka_resp_err_t failed = rd_kafka_metadata(client, 0, topic, &metadata, 30000);
        if (failed != RD_KAFKA_RESP_ERR_NO_ERROR || metadata->topic_cnt != 1) {
            bench_fail("topic %s: %s", name, rd_kafka_err2str(failed));
        }
        for (int p = 0; p < metadata->topics[0].partition_cnt; p++) {
            rd_kafka_topic_partition_list_add(list, name, p)->offset = 0;
        }
        rd_kafka_metadata_destroy(metadata);
        rd_kafka_topic_destroy(topic);
    }
    rd_kafka_resp_err_t failed = rd_kafka_assign(client, list);
    if (failed != RD_KAFKA_RESP_ERR_NO_ERROR) {
        bench_fail("assign: %s", rd_kafka_err2str(failed));
    }
    rd_kafka_topic_partition_list_destroy(list);
}

int main(int argc, char **argv)
{
    bench_options(argc, argv, usage, options);
    int64_t rows = bench_number(argc, argv, "--rows", 1), seen = 0;
    uint64_t bytes = 0;
    rd_kafka_t *client = open_consumer(bench_context(argc, argv));
    double began = bench_now(), cpu = bench_cpu(), heard = began;
    assign_all(client, bench_text(argc, argv, "--prefix", NULL), (unsigned)bench_number(argc, argv, "--topics", 1));
    rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(client);
    static rd_kafka_message_t *batch[1000];
    while (seen < rows) {
        ssize_t count = rd_kafka_consume_batch_queue(queue, 100, batch, 1000);
        for (ssize_t i = 0; i < count; i++) {
            if (batch[i]->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
                bytes += batch[i]->len;
                seen++;
                heard = bench_now();
            }
            rd_kafka_message_destroy(batch[i]);
        }
        if (bench_now() - heard > 30) {
            bench_fail("only %" PRId64 " of %" PRId64 " messages came", seen, rows);
        }
    }
    printf("{\"rows\": %" PRId64 ", \"seconds\": %.6f, \"cpu\": %.6f, \"bytes\": %" PRIu64 "}\n", seen,
        bench_now() - began, bench_cpu() - cpu, bytes);
    rd_kafka_queue_destroy(queue);
    rd_kafka_consumer_close(client);
    rd_kafka_destroy(client);
    return 0;
}
