// SPDX-License-Identifier: Apache-2.0
//
// Which of the parked topics are there now: all by one request. Where the broker refuses that, or a topic that is asked
// for may be made ([kafka] allow.auto.create.topics), one after the other, for a moment at a time.
#include "relay/publish/publish_topics.h"

#include "relay/kafka/kafka_rights.h"
#include "relay/publish/publish_board.h"
#include "relay/publish/publish_lane.h"
#include "relay/publish/publish_waiting.h"

#include <stdlib.h>

#define ASK_WITHIN DURATION_S(5)
#define ONE_BY_ONE DURATION_MS(100)

struct look {
    const char **names; // of those that are asked for
    struct kafka_topic_answer *answers;
    size_t count;
};

// A topic that this process has not missed itself is not asked for: it may be one that another configuration named,
// that nobody will ever create, and that no row is for now. Where one is, it parks the topic again.
static void choose(const struct publish_pipe *pipe, char *const *names, size_t count, bool *ready, struct look *look)
{
    for (size_t i = 0; i < count; i++) {
        ready[i] = !publish_has_missed(pipe, names[i]);
        if (!ready[i]) {
            look->names[look->count++] = names[i];
        }
    }
}

// false: Kafka does not answer, and would be waited for as long at each single one.
static bool ask_all(struct publish_pipe *pipe, const struct look *look, struct relay_error *error)
{
    struct relay_error why;
    if (look->count == 0 ||
        kafka_ask_topics(kafka_producer_client(pipe->producer), look->names, look->answers, look->count,
            publish_kafka_tick(pipe), pipe->context->clock, publish_deadline(pipe, ASK_WITHIN), &why) ||
        (why.code != RELAY_ERROR_KAFKA_UNREACHABLE && why.code != RELAY_ERROR_NO_MEMORY)) {
        return true;
    }
    *error = why;
    return false;
}

static bool ask_one(struct publish_pipe *pipe, const char *topic, bool *ready, struct relay_error *error)
{
    struct relay_error why;
    struct mono_time deadline = publish_deadline(pipe, ASK_WITHIN);
    publish_tick(pipe);
    bool there = kafka_producer_topic(pipe->producer, topic, deadline, &why) != NULL;
    if (!there && why.code == RELAY_ERROR_KAFKA_UNREACHABLE) {
        *error = why;
        return false;
    }
    *ready = there &&
        kafka_may_write(kafka_producer_client(pipe->producer), topic, publish_kafka_tick(pipe), pipe->context->clock,
            deadline);
    return true;
}

static bool judge(struct publish_pipe *pipe, const struct look *look, size_t count, bool *ready, size_t *looked,
    struct relay_error *error)
{
    struct mono_time until = publish_deadline(pipe, ONE_BY_ONE);
    size_t at = 0;
    for (*looked = 0; *looked < count; ++*looked) {
        if (ready[*looked]) {
            continue;
        }
        const struct kafka_topic_answer *answer = &look->answers[at];
        const char *topic = look->names[at++];
        // Whatever was known of it: it is looked up again when a row is sent there.
        kafka_producer_forget_topic(pipe->producer, topic);
        if (answer->code == RD_KAFKA_RESP_ERR_NO_ERROR) {
            ready[*looked] = answer->may_write;
        } else if (answer->code == RD_KAFKA_RESP_ERR__NOENT || kafka_producer_makes_topics(pipe->producer)) {
            if (mono_reached(clock_mono(pipe->context->clock), until)) {
                return true;
            }
            if (!ask_one(pipe, topic, &ready[*looked], error)) {
                return false;
            }
        }
    }
    return true;
}

bool publish_topics_ready(struct publish_pipe *pipe, char *const *names, size_t count, bool *ready, size_t *looked,
    struct relay_error *error)
{
    struct look look = {.names = calloc(count + 1, sizeof(*look.names)),
        .answers = calloc(count + 1, sizeof(*look.answers))};
    bool done = (look.names != NULL && look.answers != NULL) || error_no_memory(error, "names of topics");
    *looked = 0;
    if (done) {
        choose(pipe, names, count, ready, &look);
        done = ask_all(pipe, &look, error) && judge(pipe, &look, count, ready, looked, error);
    }
    free(look.names);
    free(look.answers);
    return done;
}
