// SPDX-License-Identifier: Apache-2.0
//
// Picks the command. The only file that is not in the library, and the only place that ends the process.
#include "relay/base/test_points.h"
#include "relay/cli/commands.h"

#include <curl/curl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *sentence;
} commands[] = {
    {"run", command_run, "the daemon: publishes, inserts, watches itself"},
    {"check", command_check, "tries configuration, servers, schemas and rights; says what to fix"},
    {"migrate", command_migrate, "applies the schemas to PostgreSQL or ClickHouse"},
    {"status", command_status, "one screen: backlog, owners, lag, breakers, dead letters"},
    {"dead-letters", command_dead_letters, "lists, shows, retries or drops events that were set aside"},
    {"replay", command_replay, "publishes kept events again, or refills a ClickHouse table from Kafka"},
};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void usage(FILE *out)
{
    fputs("usage: outbox-relay COMMAND [--config FILE] [options]\n\n"
          "Moves events from a PostgreSQL outbox table to Kafka and on into ClickHouse, once each and in order.\n\n",
        out);
    for (size_t i = 0; i < COMMANDS; i++) {
        fprintf(out, "  %-13s %s\n", commands[i].name, commands[i].sentence);
    }
    fputs("\n  --help        this text; after a command: its options\n"
          "  --version     versions of the relay and its libraries\n\n"
          "Configuration: --config FILE, else $OUTBOX_RELAY_CONFIG, else /etc/outbox-relay/outbox-relay.ini; every key "
          "can come\n"
          "from the environment. Exit codes: 0 done, 1 not done, 2 bad usage, 70 a part of the daemon hung,\n"
          "75 a server was not reachable in time, 78 bad configuration. Manual: man outbox-relay\n",
        out);
}

// A core file would have events, passwords and keys. Containers inherit no limit, and Kubernetes has no field for one.
// Only the soft limit: who needs a core file raises it with prlimit.
static void write_no_core_files(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_CORE, &limit) == 0) {
        limit.rlim_cur = 0;
        setrlimit(RLIMIT_CORE, &limit); // lowering it is always allowed
    }
}

int main(int argc, char **argv)
{
    write_no_core_files();
    const char *name = argc > 1 ? argv[1] : "";
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        usage(stdout);
        return 0;
    }
    if (strcmp(name, "--version") == 0) {
        return command_version();
    }
#ifdef RELAY_TEST_HOOKS
    if (strcmp(name, "test-points") == 0) {
        test_points_print();
        return 0;
    }
#endif
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(name, commands[i].name) == 0) {
            if (argc == 3 && strcmp(argv[2], "--version") == 0) {
                return command_version();
            }
            char called[64]; // getopt's errors begin with it
            snprintf(called, sizeof(called), "outbox-relay %s", name);
            argv[1] = called;
            curl_global_init(CURL_GLOBAL_DEFAULT);
            int code = commands[i].run(argc - 1, argv + 1);
            if (code & RELAY_EXIT_AT_ONCE) {
                // Some thread hangs in a library: destructors and exit handlers would hang or crash with it.
                _exit(code & ~RELAY_EXIT_AT_ONCE);
            }
            curl_global_cleanup();
            return code;
        }
    }
    if (*name == '-') {
        fprintf(stderr, "outbox-relay: options come behind the command: outbox-relay COMMAND %s ...\n\n", name);
    } else if (*name != '\0') {
        fprintf(stderr, "outbox-relay: there is no command '%s'\n\n", name);
    }
    usage(stderr);
    return RELAY_EXIT_USAGE;
}
