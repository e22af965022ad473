// SPDX-License-Identifier: Apache-2.0
#include "relay/cli/command_support.h"

#include "relay/base/instance.h"
#include "relay/cli/command_signals.h"
#include "relay/cli/commands.h"
#include "relay/cli/time_argument.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct config *command_load_config(const char *path)
{
    char *mistakes = NULL;
    struct relay_error error;
    struct config *config = config_load(path, &mistakes, &error);
    if (config == NULL) {
        size_t length = mistakes == NULL ? 0 : strlen(mistakes);
        fprintf(stderr, "%s%soutbox-relay: %s\n", length == 0 ? "" : mistakes,
            length == 0 || mistakes[length - 1] == '\n' ? "" : "\n", error.text);
    }
    free(mistakes);
    return config;
}

// Prints every mistake to stderr. 0, or the exit code to end with.
static int open_environment(struct command_environment *environment, const char *config_path, int broken)
{
    memset(environment, 0, sizeof(*environment));
    struct relay_error error;
    environment->config = command_load_config(config_path);
    if (environment->config == NULL) {
        return RELAY_EXIT_CONFIG;
    }
    if (!stop_init(&environment->stop, &error)) {
        fprintf(stderr, "outbox-relay: %s\n", error.text);
        config_free(environment->config);
        return broken;
    }
    environment->context = (struct relay_context){.config = environment->config,
        .clock = clock_system(),
        .stop = &environment->stop};
    instance_make(environment->context.instance);
    log_init(environment->config->log.level, environment->config->log.format);
    return 0;
}

static void close_environment(struct command_environment *environment)
{
    stop_finish(&environment->stop);
    config_free(environment->config);
}

int command_perform(const char *command, int parsed, const char *config_path, command_work *work, void *arguments,
    int broken)
{
    struct command_environment environment;
    struct command_signals signals;
    struct relay_error error;
    if (parsed != 0) {
        return parsed < 0 ? 0 : parsed;
    }
    int code = open_environment(&environment, config_path, broken);
    if (code != 0) {
        return code;
    }
    if (command_signals_start(&signals, &environment.stop, &error)) {
        code = work(&environment, arguments);
        command_signals_finish(&signals);
    } else {
        fprintf(stderr, "outbox-relay %s: %s\n", command, error.text);
        code = broken;
    }
    close_environment(&environment);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "outbox-relay %s: not all of the output could be written\n", command);
        code = code == 0 ? broken : code;
    }
    return code;
}

int command_usage(const char *command, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    fprintf(stderr, "outbox-relay %s: ", command);
    vfprintf(stderr, format, values);
    fprintf(stderr, "; see outbox-relay %s --help\n", command);
    va_end(values);
    return RELAY_EXIT_USAGE;
}

int command_time_argument(const char *command, const char *text, struct wall_time *time)
{
    struct relay_error error;
    return time_argument_parse(text, clock_wall(clock_system()), time, &error)
        ? 0
        : command_usage(command, "%s", error.text);
}
