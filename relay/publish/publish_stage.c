// SPDX-License-Identifier: Apache-2.0
#include "relay/publish/publish_stage.h"

#include "relay/base/thread.h"
#include "relay/kafka/kafka_producer.h"
#include "relay/publish/publish_pipe.h"
#include "relay/publish/publish_reason.h"
#include "relay/publish/publish_term.h"
#include "relay/publish/receipt_store.h"

#include <pthread.h>
#include <stdlib.h>

struct worker {
    const struct config_outbox *outbox;
    struct publish_pipe *pipe;
    pthread_t thread;
    bool running;
};

struct publish_stage {
    const struct relay_context *context;
    struct publish_share share;
    size_t count;
    struct worker workers[];
};

static void *run(void *argument)
{
    struct worker *worker = argument;
    publish_pipe_run(worker->pipe);
    return NULL;
}

// Prometheus counts an increase from a series' first value: one that began with its first dead letters would hide them.
static void count_dead_letters_from_zero(struct metrics *metrics)
{
    for (int reason = PUBLISH_REASON_NONE + 1; reason < PUBLISH_REASON_COUNT; reason++) {
        metrics_series2(metrics, METRIC_DEAD_LETTERS, "publish", publish_reason_name((enum publish_reason)reason));
    }
}

// Their producers would be alike.
static bool alike(const struct config_outbox *one, const struct config_outbox *other)
{
    return one->publish.guarantee == other->publish.guarantee && one->batch_rows == other->batch_rows &&
        one->batch_bytes == other->batch_bytes;
}

bool publish_stage_try(const struct relay_context *context, struct relay_error *error)
{
    const struct config *config = context->config;
    bool good = true, reads = false;
    for (size_t i = 0; good && i < config->outbox_count; i++) {
        const struct config_outbox *outbox = &config->outboxes[i];
        if (!outbox->publish.enabled) {
            continue;
        }
        struct kafka_producer_options options = publish_term_options(outbox, outbox->publish.transactional_id);
        bool tried = false;
        for (size_t j = 0; j < i && !tried; j++) {
            tried = config->outboxes[j].publish.enabled && alike(&config->outboxes[j], outbox);
        }
        good = tried || kafka_producer_try(context, &options, error);
        reads = reads || options.transactional_id != NULL;
    }
    good = good && (!reads || receipt_store_try(context, error));
    return good || error_prefix(error, "publish stage");
}

// The others are another relay's, or are to stand.
static int outboxes_of_ours(const struct config *config)
{
    int enabled = 0;
    for (size_t i = 0; i < config->outbox_count; i++) {
        enabled += config->outboxes[i].publish.enabled;
    }
    return enabled;
}

static bool make_workers(struct publish_stage *stage, struct relay_error *error)
{
    const struct config *config = stage->context->config;
    struct publish_share *share = stage->share.outboxes > 1 ? &stage->share : NULL;
    for (size_t i = 0; i < config->outbox_count; i++) {
        const struct config_outbox *outbox = &config->outboxes[i];
        if (!outbox->publish.enabled) {
            continue;
        }
        struct worker *worker = &stage->workers[stage->count];
        worker->outbox = outbox;
        worker->pipe = publish_pipe_new(stage->context, outbox, share, error);
        if (worker->pipe == NULL) {
            return error_prefix(error, "outbox %s", outbox->name);
        }
        stage->count++;
    }
    return true;
}

struct publish_stage *publish_stage_start(const struct relay_context *context, struct relay_error *error)
{
    const struct config *config = context->config;
    struct publish_stage *stage = calloc(1, sizeof(*stage) + config->outbox_count * sizeof(stage->workers[0]));
    if (stage == NULL) {
        error_no_memory(error, "the publish stage");
        return NULL;
    }
    stage->context = context;
    count_dead_letters_from_zero(context->metrics);
    if (!publish_share_init(&stage->share, outboxes_of_ours(config))) {
        free(stage);
        error_set(error, RELAY_ERROR_SYSTEM, "a lock cannot be made");
        return NULL;
    }
    if (!make_workers(stage, error)) {
        publish_stage_free(stage);
        return NULL;
    }
    // The threads start when every pipe is there.
    error_clear(error);
    for (size_t i = 0; i < stage->count; i++) {
        struct worker *worker = &stage->workers[i];
        worker->running = thread_start(&worker->thread, "publish", run, worker, error);
        if (!worker->running) {
            error_prefix(error, "outbox %s", worker->outbox->name);
            return i == 0 ? (publish_stage_free(stage), NULL) : stage;
        }
    }
    return stage;
}

bool publish_stage_join(struct publish_stage *stage, struct mono_time deadline)
{
    bool all = true;
    for (size_t i = 0; i < stage->count; i++) {
        struct worker *worker = &stage->workers[i];
        worker->running = worker->running && !thread_join_until(worker->thread, stage->context->clock, deadline);
        all = all && !worker->running;
    }
    return all;
}

bool publish_stage_left_handle(const struct publish_stage *stage)
{
    bool left = false;
    for (size_t i = 0; i < stage->count; i++) {
        left = left || stage->workers[i].pipe->left_client;
    }
    return left;
}

void publish_stage_free(struct publish_stage *stage)
{
    if (stage == NULL) {
        return;
    }
    for (size_t i = 0; i < stage->count; i++) {
        publish_pipe_free(stage->workers[i].pipe);
    }
    publish_share_finish(&stage->share);
    free(stage);
}
