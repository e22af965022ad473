// SPDX-License-Identifier: Apache-2.0
//
// Start: signals are blocked before the first thread is made, so that only our descriptor sees them; then breakers, the
// trial of [kafka], alerts, HTTP (so that /health answers from the first moment), the two pipes, the health watch. No
// part contacts a server in its start function, so the daemon is up at once and waits for servers that are not.
//
// - A part refuses to start: everything already started is stopped again, the error is the exit.
// - Stop: it is raised with a deadline; pipes first, then the watch, alerts, HTTP last. Deadlines leave room for the
//   ones behind. All of them see it at once: alerts send what is due by then, and nothing that the stop itself causes.
// - A thread does not end in time: it hangs in a library. Nothing is freed, the process ends at once; what was in
//   flight is found again by the next start, as after a crash.
// - A loop is silent for a minute: the process ends itself with code 70 instead of looking alive (a call into
//   librdkafka may outlive every timeout); nothing is lost by it. Counted in our own rounds, so that a process that was
//   stopped and continued is not judged by the time it slept.
// - librdkafka makes no client of what [kafka] says: a configuration error like those that are found while it is read.
//   Certificates and keys are not looked at, as they may come later than the daemon.
// - A bad configuration at SIGHUP: every mistake is logged, the old configuration stays.
#include "relay/ops/lifecycle.h"

#include "relay/base/exit_code.h"
#include "relay/base/instance.h"
#include "relay/base/log.h"
#include "relay/base/version.h"
#include "relay/config/config_compare.h"
#include "relay/insert/insert_stage.h"
#include "relay/ops/alerts.h"
#include "relay/ops/health_watch.h"
#include "relay/ops/http_server.h"
#include "relay/ops/service_manager.h"
#include "relay/postgres/pg_newest.h"
#include "relay/publish/publish_stage.h"

#include <librdkafka/rdkafka.h>
#include <libpq-fe.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define SILENT_ROUNDS 60 // of a second each

struct lifecycle {
    const struct lifecycle_options *options;
    struct config *config;   // of the start: all borrow it
    struct config *in_force; // the same, or of a reload: of it nobody keeps anything but copies
    struct relay_context context;
    struct stop stop;
    int signals;
    struct service_manager service;
    struct alerts *alerts;
    struct http_server *http;
    struct publish_stage *publish;
    struct insert_stage *insert;
    struct health_watch *watch;
    bool hung; // some thread was left behind
};

// Parts

static void tell_breaker(void *name, enum breaker_state from, enum breaker_state to)
{
    log_event(to == BREAKER_OPEN ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO, "breaker.changed", NULL,
        LOG_TEXT("dependency", name), LOG_TEXT("state_before", breaker_state_name(from)),
        LOG_TEXT("state", breaker_state_name(to)));
}

static struct breaker_options breaker_options_of(const struct config *config, enum config_dependency dependency)
{
    const struct config_breaker *from = &config->breakers[dependency];
    return (struct breaker_options){.failures = from->failures, .open = from->open, .successes = from->successes};
}

static struct circuit_breaker *make_breaker(struct relay_context *context, enum config_dependency dependency,
    char *name, struct relay_error *error)
{
    return breaker_new(breaker_options_of(context->config, dependency), context->clock,
        metrics_series1(context->metrics, METRIC_BREAKER_STATE, name),
        metrics_series1(context->metrics, METRIC_BREAKER_TRIPS, name), tell_breaker, name, error);
}

static bool make_context(struct lifecycle *self, struct relay_error *error)
{
    static char postgres[] = "postgres", kafka[] = "kafka";
    struct relay_context *context = &self->context;
    char libpq[16];
    snprintf(libpq, sizeof(libpq), "%d.%d", PQlibVersion() / 10000, PQlibVersion() % 10000);
    context->config = self->config;
    context->clock = clock_system();
    context->stop = &self->stop;
    instance_make(context->instance);
    context->metrics = metrics_new(error);
    if (context->metrics == NULL) {
        return false;
    }
    metric_set(metrics_series3(context->metrics, METRIC_BUILD_INFO, relay_version(), rd_kafka_version_str(), libpq), 1);
    context->board = status_board_new(context->clock, error);
    if (context->board == NULL) {
        return false;
    }
    context->postgres_breaker = make_breaker(context, CONFIG_DEPENDENCY_POSTGRES, postgres, error);
    context->kafka_breaker = make_breaker(context, CONFIG_DEPENDENCY_KAFKA, kafka, error);
    context->postgres_newest = pg_newest_new(error);
    return context->postgres_breaker != NULL && context->kafka_breaker != NULL && context->postgres_newest != NULL;
}

static int64_t lag_of_stage(const void *stage)
{
    return insert_stage_lag(stage);
}

// Only what the configuration says is judged, with the exit code of a bad one. What the system lacks just now the
// stages wait for.
static bool try_kafka(const struct relay_context *context, struct relay_error *error)
{
    bool made = publish_stage_try(context, error) && insert_stage_try(context, error);
    return made || error->code != RELAY_ERROR_CONFIG;
}

static bool start_parts(struct lifecycle *self, struct relay_error *error)
{
    const struct relay_context *context = &self->context;
    const struct config *config = context->config;
    if (!try_kafka(context, error)) {
        return false;
    }
    self->alerts = alerts_start(context, error);
    if (self->alerts == NULL) {
        return error_prefix(error, "alerts");
    }
    error_clear(error);
    self->http = http_server_start(context, self->alerts, error);
    if (self->http == NULL && error->code != RELAY_ERROR_NONE) {
        return false;
    }
    if (config->publish.enabled) {
        self->publish = publish_stage_start(context, error);
        if (self->publish == NULL || error->code != RELAY_ERROR_NONE) {
            return error_prefix(error, "publish stage");
        }
    }
    if (config->insert.enabled) {
        self->insert = insert_stage_start(context, error);
        if (self->insert == NULL) {
            return error_prefix(error, "insert stage");
        }
    }
    self->watch = health_watch_start(context, self->alerts, self->insert == NULL ? NULL : lag_of_stage, self->insert,
        error);
    return self->watch != NULL || error_prefix(error, "health watch");
}

// Signals and reload

static bool open_signals(struct lifecycle *self, struct relay_error *error)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    signal(SIGPIPE, SIG_IGN);
    if (pthread_sigmask(SIG_BLOCK, &set, NULL) != 0 ||
        (self->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)) < 0) {
        return error_set(error, RELAY_ERROR_SYSTEM, "signals cannot be received");
    }
    return true;
}

struct differences {
    bool live; // which are meant
    size_t count;
};

static void tell_difference(void *context, const char *section, const char *key, bool live)
{
    struct differences *differences = context;
    if (live != differences->live) {
        return;
    }
    differences->count++;
    log_event(live ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING, live ? "config.changed" : "config.needs_restart",
        live ? "takes effect now" : "takes effect at the next start", LOG_TEXT("section", section),
        LOG_TEXT("key", key));
}

static void apply_config(struct lifecycle *self, struct config *config)
{
    log_set_level(config->log.level);
    breaker_set_options(self->context.postgres_breaker, breaker_options_of(config, CONFIG_DEPENDENCY_POSTGRES));
    breaker_set_options(self->context.kafka_breaker, breaker_options_of(config, CONFIG_DEPENDENCY_KAFKA));
    // A signal may come while a start that failed is stopped: then some part is not there.
    if (self->alerts != NULL) {
        alerts_reload(self->alerts, config);
    }
    if (self->insert != NULL) {
        insert_stage_reload(self->insert, config);
    }
    if (self->watch != NULL) {
        health_watch_reload(self->watch, config);
    }
}

static void take_config(struct lifecycle *self, struct config *config)
{
    struct config *before = self->in_force;
    apply_config(self, config);
    self->in_force = config;
    if (before != self->config) {
        config_free(before);
    }
}

static void log_mistakes(char *mistakes)
{
    char *rest = NULL;
    for (char *line = mistakes == NULL ? NULL : strtok_r(mistakes, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        log_event(LOG_LEVEL_ERROR, "config.mistake", line);
    }
}

static void reload(struct lifecycle *self)
{
    service_manager_reloading(&self->service);
    char *mistakes = NULL;
    struct relay_error error;
    struct config *config = config_load(self->options->config_path, &mistakes, &error);
    struct relay_context context = self->context;
    context.config = config;
    if (config == NULL || !try_kafka(&context, &error)) {
        config_free(config);
        log_mistakes(mistakes);
        log_event(LOG_LEVEL_ERROR, "config.reload_failed", "the configuration in force stays", LOG_ERROR(&error));
    } else {
        // What cannot change while running is still as it was at the start, whatever reloads came in between.
        struct differences live = {.live = true}, at_restart = {.live = false};
        config_compare(self->in_force, config, tell_difference, &live);
        config_compare(self->config, config, tell_difference, &at_restart);
        take_config(self, config);
        log_event(LOG_LEVEL_INFO, "config.reloaded", NULL, LOG_INT("live", live.count),
            LOG_INT("at_restart", at_restart.count));
    }
    free(mistakes);
    service_manager_reloaded(&self->service);
}

// Running

// The end of the promised time, which the parts have one after another once the drain is over.
static struct duration drain_reserve(const struct lifecycle *self)
{
    int64_t fifth = self->context.config->drain_timeout.ns / 5;
    return DURATION_NS(fifth < 2000000000 ? fifth : 2000000000);
}

static void begin_stop(struct lifecycle *self, const char *why)
{
    const struct clock *clock = self->context.clock;
    struct duration drain = self->context.config->drain_timeout;
    struct duration reserve = drain_reserve(self);
    struct mono_time until = mono_add(clock_mono(clock), DURATION_NS(drain.ns - reserve.ns));
    log_event(LOG_LEVEL_INFO, "lifecycle.stopping", why, LOG_REAL("drain_seconds", duration_seconds(drain)));
    stop_raise(&self->stop, until);
    service_manager_stopping(&self->service, mono_add(until, reserve));
}

// Takes the signals that have come. true: stop.
static bool take_signals(struct lifecycle *self)
{
    struct signalfd_siginfo info;
    bool ending = false;
    while (read(self->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo == SIGHUP) {
            reload(self);
        } else {
            ending = true;
        }
    }
    return ending;
}

// Until the stop. Returns the exit code.
static int serve(struct lifecycle *self)
{
    const struct clock *clock = self->context.clock;
    bool waiting = self->options->wait.ns > 0;
    struct mono_time wait_until = mono_add(clock_mono(clock), self->options->wait);
    struct mono_time next_look = clock_mono(clock);
    char silent[128];
    int silent_rounds = 0;
    if (!waiting) {
        service_manager_ready(&self->service);
    }
    for (;;) {
        struct mono_time next = service_manager_beat(&self->service);
        if (mono_before(next_look, next)) {
            next = next_look;
        }
        struct pollfd fd = {.fd = self->signals, .events = POLLIN};
        if (poll(&fd, 1, duration_to_poll_ms(mono_left(clock_mono(clock), next))) > 0 && take_signals(self)) {
            begin_stop(self, "asked to by a signal");
            return 0;
        }
        struct mono_time now = clock_mono(clock);
        if (!mono_reached(now, next_look)) {
            continue;
        }
        next_look = mono_add(now, waiting ? DURATION_MS(100) : DURATION_S(1));
        if (waiting && status_board_is_ready(self->context.board)) {
            waiting = false;
            service_manager_ready(&self->service);
        }
        if (waiting && mono_reached(now, wait_until)) {
            begin_stop(self, "the servers were not reached within --wait");
            return RELAY_EXIT_UNREACHABLE;
        }
        silent_rounds = status_board_live(self->context.board, silent, sizeof(silent)) ? 0 : silent_rounds + 1;
        if (silent_rounds >= SILENT_ROUNDS) {
            log_event(LOG_LEVEL_ERROR, "lifecycle.hung",
                "a loop makes no progress; the process ends so that it can be started anew", LOG_TEXT("loop", silent));
            self->hung = true;
            return RELAY_EXIT_STUCK;
        }
    }
}

// Stopping

enum part { PART_PUBLISH, PART_INSERT, PART_WATCH, PART_ALERTS, PART_COUNT };

static bool join_part(struct lifecycle *self, enum part part, struct mono_time until)
{
    switch (part) {
    case PART_PUBLISH: return self->publish == NULL || publish_stage_join(self->publish, until);
    case PART_INSERT: return self->insert == NULL || insert_stage_join(self->insert, until);
    case PART_WATCH: return self->watch == NULL || health_watch_join(self->watch, until);
    case PART_ALERTS: return self->alerts == NULL || alerts_join(self->alerts, until);
    case PART_COUNT: break;
    }
    return true;
}

// Waits in slices, so that the service manager hears of us and a second signal is seen.
static bool join_until(struct lifecycle *self, enum part part, struct duration reserve)
{
    const struct clock *clock = self->context.clock;
    for (;;) {
        struct mono_time now = clock_mono(clock);
        struct mono_time deadline = mono_add(stop_deadline(&self->stop), reserve);
        struct mono_time slice = mono_add(now, DURATION_MS(200));
        if (join_part(self, part, mono_before(deadline, slice) ? deadline : slice)) {
            return true;
        }
        service_manager_beat(&self->service);
        if (self->signals >= 0 && take_signals(self)) {
            log_event(LOG_LEVEL_WARNING, "lifecycle.stopping", "asked again: the drain is cut short");
            stop_raise(&self->stop, clock_mono(clock));
        }
        if (mono_reached(clock_mono(clock), deadline)) {
            return false;
        }
    }
}

static void stop_parts(struct lifecycle *self)
{
    static const char *const names[] = {"publish", "insert", "health watch", "alerts"};
    struct duration reserve = drain_reserve(self);
    for (enum part part = PART_PUBLISH; part < PART_COUNT; part++) {
        if (!join_until(self, part, DURATION_NS(reserve.ns * ((int64_t)part + 1) / PART_COUNT))) {
            log_event(LOG_LEVEL_WARNING, "lifecycle.left_behind",
                "did not end in time; what it had under way is found again by the next start",
                LOG_TEXT("part", names[part]));
            self->hung = true;
        }
    }
    self->hung = self->hung || (self->publish != NULL && publish_stage_left_handle(self->publish)) ||
        (self->insert != NULL && insert_stage_left_handle(self->insert));
}

static void free_parts(struct lifecycle *self)
{
    http_server_stop(self->http);
    health_watch_free(self->watch);
    insert_stage_free(self->insert);
    publish_stage_free(self->publish);
    alerts_free(self->alerts);
    pg_newest_free(self->context.postgres_newest);
    breaker_free(self->context.kafka_breaker);
    breaker_free(self->context.postgres_breaker);
    status_board_free(self->context.board);
    metrics_free(self->context.metrics);
}

int lifecycle_run(struct config *config, const struct lifecycle_options *options)
{
    struct lifecycle self = {.options = options,
        .config = config,
        .in_force = config,
        .signals = -1,
        .stop = {.fd = -1}};
    struct relay_error error;
    error_clear(&error);
    log_init(config->log.level, config->log.format);
    int code = 1;
    if (!stop_init(&self.stop, &error) || !open_signals(&self, &error) || !make_context(&self, &error)) {
        goto failed;
    }
    service_manager_init(&self.service, self.context.clock, self.context.board);
    log_event(LOG_LEVEL_INFO, "lifecycle.starting", NULL, LOG_TEXT("version", relay_version()),
        LOG_TEXT("instance", self.context.instance), LOG_TEXT("config", config->path), LOG_INT("pid", getpid()));
    if (!start_parts(&self, &error)) {
        code = error.code == RELAY_ERROR_CONFIG ? RELAY_EXIT_CONFIG : 1;
        stop_raise(&self.stop, mono_add(clock_mono(self.context.clock), DURATION_S(2)));
        stop_parts(&self);
        goto failed;
    }
    code = serve(&self);
    if (!self.hung) {
        stop_parts(&self);
        log_event(LOG_LEVEL_INFO, "lifecycle.stopped", NULL, LOG_INT("exit_code", code));
    }
    goto ended;

failed:
    log_event(LOG_LEVEL_ERROR, "lifecycle.not_started", NULL, LOG_ERROR(&error));
ended:
    if (self.hung) {
        return code | RELAY_EXIT_AT_ONCE;
    }
    free_parts(&self);
    if (self.signals >= 0) {
        close(self.signals);
    }
    stop_finish(&self.stop);
    if (self.in_force != self.config) {
        config_free(self.in_force);
    }
    config_free(self.config);
    return code;
}
