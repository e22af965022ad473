// SPDX-License-Identifier: Apache-2.0
//
// `check`: looks at everything that `run` will need and says of each thing whether it is as it must be. It changes
// nothing.
#include "relay/cli/commands.h"

#include "relay/cli/check.h"
#include "relay/cli/command_support.h"

#include <getopt.h>
#include <string.h>

static const char help[] =
    "usage: outbox-relay check [options]\n"
    "\n"
    "Checks the configuration, PostgreSQL, Kafka, every ClickHouse endpoint, the schemas, topics, rights and alert "
    "targets,\n"
    "and prints one line for each: ok, warn or FAIL, the finding, and what to do. Changes nothing.\n"
    "\n"
    "  --config FILE    (default $OUTBOX_RELAY_CONFIG, else /etc/outbox-relay/outbox-relay.ini)\n"
    "  --json           one JSON document instead of lines (default: lines)\n"
    "  --schemas DIR    the directory with postgres/ and clickhouse/ (default $OUTBOX_RELAY_SCHEMAS, else\n"
    "                   ../share/outbox-relay/schemas next to the binary)\n"
    "  --help           this text\n"
    "\n"
    "exit: 0 nothing failed; 1 something failed; 2 bad usage; 78 bad configuration\n";

struct arguments {
    const char *config, *schemas;
    bool json;
};

// 0: go on; else the exit code, or -1 for help that was shown.
static int parse(int argc, char **argv, struct arguments *arguments)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'}, {"json", no_argument, NULL, 'j'},
        {"schemas", required_argument, NULL, 's'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    *arguments = (struct arguments){0};
    optind = 0;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'c': arguments->config = optarg; break;
        case 'j': arguments->json = true; break;
        case 's': arguments->schemas = optarg; break;
        case 'h': fputs(help, stdout); return -1;
        default: return RELAY_EXIT_USAGE; // getopt has said why
        }
    }
    if (optind < argc) {
        return command_usage("check", "\"%s\" is one word too many", argv[optind]);
    }
    return 0;
}

static void check_secrets(struct check_report *report, const struct config *config)
{
    for (size_t i = 0; i < config->exposed.count; i++) {
        check_add(report, CHECK_WARN, "config",
            "put it into a file of its own and give its path as KEY_file (docs/configuration.md, \"Secrets\")",
            "%s is a secret and stands in %s, which every user of this machine may read", config->exposed.items[i],
            config->path);
    }
}

static int run_checks(const struct command_environment *environment, void *context)
{
    const struct arguments *arguments = context;
    const struct config *config = environment->config;
    struct check_report report;
    struct check check = {.context = &environment->context, .report = &report, .schemas = arguments->schemas};
    check_report_init(&report, stdout, arguments->json);
    check_add(&report, CHECK_OK, "config", "", "%s: %zu outbox%s, %zu route%s",
        config->path[0] != '\0' ? config->path : "(environment)", config->outbox_count,
        config->outbox_count == 1 ? "" : "es", config->route_count, config->route_count == 1 ? "" : "s");
    check_secrets(&report, config);
    if (config->publish.enabled) {
        check_postgres(&check);
    } else {
        check_add(&report, CHECK_OK, "postgres", "", "not looked at: [publish] enabled = false");
    }
    check_kafka(&check);
    if (config->insert.enabled) {
        check_clickhouse(&check);
        check_default_route(&check);
    } else {
        check_add(&report, CHECK_OK, "clickhouse", "", "not looked at: [insert] enabled = false");
    }
    check_alerts(&check);
    check_transport(&check);
    pg_close(check.connection);
    return check_report_finish(&report);
}

int command_check(int argc, char **argv)
{
    struct arguments arguments;
    int parsed = parse(argc, argv, &arguments);
    return command_perform("check", parsed, arguments.config, run_checks, &arguments, 1);
}
