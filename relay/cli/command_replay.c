// SPDX-License-Identifier: Apache-2.0
//
// `replay`: arguments, and then one of the two ways of replay.h.
#include "relay/cli/commands.h"

#include "relay/cli/command_support.h"
#include "relay/cli/replay.h"
#include "relay/config/config_checks.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "usage: outbox-relay replay --since T | --from T --to T [options]\n"
    "       outbox-relay replay --into TABLE --since T | --from T --to T [options]\n"
    "\n"
    "Publishes events again that their outbox has kept (disposition = mark): the same event ids under new numbers, in "
    "their old\n"
    "order among themselves, after everything published since. With --into, fills a ClickHouse table from Kafka "
    "instead;\n"
    "rows that the table has already are not written again. One at a time for a table, dead-letters retry included.\n"
    "\n"
    "  --since T        created at T or later; --from T is the same\n"
    "  --to T           created before T (default: until now)\n"
    "  --event-type X   of this event type (default: any)\n"
    "  --aggregate-id X of this aggregate (default: any)\n"
    "  --outbox NAME    of this outbox (default: the only one)\n"
    "  --into TABLE     fill this table from Kafka (default: publish again)\n"
    "  --route NAME     with --into: topics and columns of this route (default: each that fills TABLE)\n"
    "  --rate N         at most N of these events a second (default 1000; with --into 20000)\n"
    "  --allow-doubles  with --into: also where merges or a TTL have removed rows, which may then be counted twice\n"
    "  --dead-letters   with --into a table that the daemon fills: messages that do not fit become dead letters, "
    "unless\n"
    "                   they are there\n"
    "  --dry-run        only report what would be done\n"
    "  --config FILE    (default $OUTBOX_RELAY_CONFIG, else /etc/outbox-relay/outbox-relay.ini)\n"
    "  --help           this text\n"
    "\n"
    "T: a date like 2026-03-01T12:34:56Z, or how long ago like 2h, 3d or 1h30m; with --into it is the message's "
    "timestamp\n"
    "exit: 0 done; 1 not done, or not all: some messages do not fit, views may lack some, or a topic is not there; 2 "
    "bad "
    "usage; 78 bad\n"
    "configuration\n";

#define RATE_PUBLISH 1000
#define RATE_INSERT  20000

struct arguments {
    struct replay_options options;
    const char *config;
};

static int parse_rate(const char *text, int64_t *rate)
{
    char *end;
    *rate = strtoll(text, &end, 10);
    return end != text && *end == '\0' && *rate > 0 && *rate <= 10000000
        ? 0
        : command_usage("replay", "--rate %s is no number from 1 to 10000000", text);
}

// One option; returns 0, or the exit code.
static int take_option(struct arguments *arguments, int option, char *value)
{
    struct replay_options *options = &arguments->options;
    switch (option) {
    case 'f':
        if (options->from_given) {
            return command_usage("replay", "--since and --from are the same: give one");
        }
        options->from_given = true;
        return command_time_argument("replay", value, &options->from);
    case 't': options->to_given = true; return command_time_argument("replay", value, &options->to);
    case 'e': options->event_type = value; return 0;
    case 'a': options->aggregate_id = value; return 0;
    case 'o': options->outbox = value; return 0;
    case 'i':
        config_plain_clickhouse_table(value);
        options->into = value;
        return 0;
    case 'r': options->route = value; return 0;
    case 'R': return parse_rate(value, &options->rate);
    case 'd': options->allow_doubles = true; return 0;
    case 'l': options->dead_letters = true; return 0;
    case 'n': options->dry_run = true; return 0;
    case 'c': arguments->config = value; return 0;
    default: return RELAY_EXIT_USAGE; // getopt has said why
    }
}

static int judge(const struct replay_options *options)
{
    if (!options->from_given) {
        return command_usage("replay", "say from when: --since T or --from T");
    }
    if (options->to_given && options->to.us <= options->from.us) {
        return command_usage("replay", "--to is not after --from");
    }
    if (options->route && !options->into) {
        return command_usage("replay", "--route goes with --into");
    }
    if (options->allow_doubles && !options->into) {
        return command_usage("replay", "--allow-doubles goes with --into");
    }
    if (options->dead_letters && !options->into) {
        return command_usage("replay", "--dead-letters goes with --into");
    }
    if (options->outbox && options->into) {
        return command_usage("replay", "--outbox does not go with --into, which reads Kafka");
    }
    return 0;
}

// 0: go on; else the exit code, or -1 for help that was shown.
static int parse(int argc, char **argv, struct arguments *arguments)
{
    static const struct option options[] = {{"since", required_argument, NULL, 'f'},
        {"from", required_argument, NULL, 'f'}, {"to", required_argument, NULL, 't'},
        {"event-type", required_argument, NULL, 'e'}, {"aggregate-id", required_argument, NULL, 'a'},
        {"outbox", required_argument, NULL, 'o'}, {"into", required_argument, NULL, 'i'},
        {"route", required_argument, NULL, 'r'}, {"rate", required_argument, NULL, 'R'},
        {"allow-doubles", no_argument, NULL, 'd'}, {"dead-letters", no_argument, NULL, 'l'},
        {"dry-run", no_argument, NULL, 'n'}, {"config", required_argument, NULL, 'c'}, {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0}};
    *arguments = (struct arguments){0};
    optind = 0;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 'h') {
            fputs(help, stdout);
            return -1;
        }
        int code = take_option(arguments, option, optarg);
        if (code != 0) {
            return code;
        }
    }
    if (optind < argc) {
        return command_usage("replay", "\"%s\" is one word too many", argv[optind]);
    }
    if (arguments->options.rate == 0) {
        arguments->options.rate = arguments->options.into ? RATE_INSERT : RATE_PUBLISH;
    }
    return judge(&arguments->options);
}

static int replay(const struct command_environment *environment, void *context)
{
    const struct replay_options *options = &((const struct arguments *)context)->options;
    struct relay_error error = {0};
    size_t left = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    bool done = options->into ? replay_topics(&environment->context, options, &left, &error)
                              : replay_outbox(&environment->context, options, &error);
    if (!done) {
        fprintf(stderr, "outbox-relay replay: %s\n", error.text);
        return error.code == RELAY_ERROR_USAGE ? RELAY_EXIT_USAGE : 1;
    }
    return left > 0 ? 1 : 0;
}

int command_replay(int argc, char **argv)
{
    struct arguments arguments;
    int parsed = parse(argc, argv, &arguments);
    return command_perform("replay", parsed, arguments.config, replay, &arguments, 1);
}
