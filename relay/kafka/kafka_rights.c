// SPDX-License-Identifier: Apache-2.0
#include "relay/kafka/kafka_rights.h"

#include "relay/kafka/kafka_error.h"

#include <stdlib.h>
#include <string.h>

// Brokers before 2.3 and topics that are not there tell no operations at all.
static bool allows_write(const rd_kafka_TopicDescription_t *topic)
{
    size_t operations = 0;
    const rd_kafka_AclOperation_t *allowed = rd_kafka_TopicDescription_authorized_operations(topic, &operations);
    for (size_t i = 0; allowed != NULL && i < operations; i++) {
        if (allowed[i] == RD_KAFKA_ACL_OPERATION_WRITE || allowed[i] == RD_KAFKA_ACL_OPERATION_ALL) {
            return true;
        }
    }
    return operations == 0;
}

struct asked {
    const char *name;
    struct kafka_topic_answer *answer;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct asked *)a)->name, ((const struct asked *)b)->name);
}

// The answers come in the broker's order.
static void take_answers(const rd_kafka_DescribeTopics_result_t *result, struct asked *asked, size_t count)
{
    size_t described = 0;
    const rd_kafka_TopicDescription_t **topics = rd_kafka_DescribeTopics_result_topics(result, &described);
    for (size_t i = 0; i < described; i++) {
        struct asked wanted = {.name = rd_kafka_TopicDescription_name(topics[i])};
        const struct asked *found = bsearch(&wanted, asked, count, sizeof(*asked), by_name);
        if (found != NULL) {
            found->answer->code = rd_kafka_error_code(rd_kafka_TopicDescription_error(topics[i]));
            found->answer->may_write = allows_write(topics[i]);
        }
    }
}

static rd_kafka_event_t *describe(rd_kafka_t *client, const char **names, size_t count, struct kafka_tick tick,
    const struct clock *clock, struct mono_time deadline)
{
    rd_kafka_TopicCollection_t *topics = rd_kafka_TopicCollection_of_topic_names(names, count);
    rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(client, RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    rd_kafka_error_destroy(rd_kafka_AdminOptions_set_include_authorized_operations(options, 1));
    rd_kafka_DescribeTopics(client, topics, options, queue);
    rd_kafka_event_t *event = kafka_wait_event(queue, tick, clock, deadline);
    rd_kafka_queue_destroy(queue);
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_TopicCollection_destroy(topics);
    return event;
}

bool kafka_ask_topics(rd_kafka_t *client, const char **names, struct kafka_topic_answer *answers, size_t count,
    struct kafka_tick tick, const struct clock *clock, struct mono_time deadline, struct relay_error *error)
{
    struct asked *asked = malloc((count + 1) * sizeof(*asked));
    if (asked == NULL) {
        return error_no_memory(error, "names of topics");
    }
    for (size_t i = 0; i < count; i++) {
        answers[i] = (struct kafka_topic_answer){.code = RD_KAFKA_RESP_ERR__NOENT, .may_write = true};
        asked[i] = (struct asked){names[i], &answers[i]};
    }
    qsort(asked, count, sizeof(*asked), by_name);
    rd_kafka_event_t *event = describe(client, names, count, tick, clock, deadline);
    const rd_kafka_DescribeTopics_result_t *result = event == NULL ? NULL : rd_kafka_event_DescribeTopics_result(event);
    rd_kafka_resp_err_t code = event == NULL ? RD_KAFKA_RESP_ERR__TIMED_OUT : rd_kafka_event_error(event);
    bool done = code == RD_KAFKA_RESP_ERR_NO_ERROR && result != NULL;
    if (done) {
        take_answers(result, asked, count);
    } else {
        kafka_error_set(error, code, "asking for %zu topics", count);
    }
    if (event != NULL) {
        rd_kafka_event_destroy(event);
    }
    free(asked);
    return done;
}

bool kafka_may_write(rd_kafka_t *client, const char *topic, struct kafka_tick tick, const struct clock *clock,
    struct mono_time deadline)
{
    struct kafka_topic_answer answer;
    return !kafka_ask_topics(client, &topic, &answer, 1, tick, clock, deadline, NULL) || answer.may_write;
}
