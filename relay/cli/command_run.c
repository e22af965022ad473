// SPDX-License-Identifier: Apache-2.0
#include "relay/cli/command_support.h"
#include "relay/cli/commands.h"
#include "relay/config/config_docs.h"
#include "relay/config/config_value.h"
#include "relay/ops/lifecycle.h"

#include <getopt.h>
#include <stdio.h>

static void usage(FILE *out)
{
    fputs("usage: outbox-relay run [--config FILE] [--wait TIME]\n\n"
          "The daemon: publishes the rows of its outboxes to Kafka and inserts what it consumes into ClickHouse, as "
          "configured;\n"
          "judges its health, sends alerts, answers HTTP. Servers that are down are waited for.\n\n"
          "  --config FILE  default: $OUTBOX_RELAY_CONFIG, else /etc/outbox-relay/outbox-relay.ini\n"
          "  --wait TIME    exit with 75 unless every stage is ready within this time (10s, 2m); default: wait for "
          "ever\n\n"
          "Signals: SIGTERM and SIGINT stop it (a second one cuts the drain short), SIGHUP reads the configuration "
          "again.\n"
          "Exit codes: 0 after a clean stop, 1 a part could not start, 70 a part hung, 75 --wait ran out, 78 bad "
          "configuration.\n",
        out);
}

int command_run(int argc, char **argv)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
        {"wait", required_argument, NULL, 'w'}, {"help", no_argument, NULL, 'h'}, {0}};
    struct lifecycle_options run = {.config_path = NULL, .wait = {0}};
    struct relay_error error;
    for (int option; (option = getopt_long(argc, argv, "c:w:h", options, NULL)) != -1;) {
        switch (option) {
        case 'c': run.config_path = optarg; break;
        case 'w':
            if (!config_parse_duration(optarg, &run.wait.ns, &error)) {
                fprintf(stderr, "outbox-relay run: --wait: %s\n", error.text);
                return RELAY_EXIT_USAGE;
            }
            break;
        case 'h':
            usage(stdout);
            fputs("\nKeys of the configuration, with their defaults:\n", stdout);
            config_docs_help(stdout);
            return 0;
        default: usage(stderr); return RELAY_EXIT_USAGE;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "outbox-relay run: '%s' is not an option\n", argv[optind]);
        return RELAY_EXIT_USAGE;
    }
    struct config *config = command_load_config(run.config_path);
    if (config == NULL) {
        return RELAY_EXIT_CONFIG;
    }
    return lifecycle_run(config, &run);
}
