// SPDX-License-Identifier: Apache-2.0
//
// `migrate`: arguments, configuration, schema files, and then one of the two engines (migrate.h). Every mistake of the
// command line is told before anything is contacted.
#include "relay/cli/commands.h"

#include "relay/cli/command_support.h"
#include "relay/cli/migrate.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "usage: outbox-relay migrate postgres|clickhouse [up|down|status] [options]\n"
    "\n"
    "Applies the schema files NNN_name.up.sql of a server in the order of their numbers and records each. An applied\n"
    "file is not run again; a failed run resumes where it stopped. up also creates or attaches the tables of [outbox "
    "NAME].\n"
    "\n"
    "  up               (default) apply the pending files\n"
    "  down             revert the last file; with --to N all files above N (0: everything)\n"
    "  status           list the files: applied, pending, CHANGED since, NO FILE, or MISSING (clickhouse: the table\n"
    "                   that it made and the configuration needs; up makes it anew)\n"
    "\n"
    "  --to N           up: up to file N; down: back to file N (default: all; the last one)\n"
    "  --dry-run        show what would be run, and change nothing\n"
    "  --baseline       postgres up: record files that were run by other means (psql) instead of running them, if\n"
    "                   the database has what they create\n"
    "  --config FILE    (default $OUTBOX_RELAY_CONFIG, else /etc/outbox-relay/outbox-relay.ini)\n"
    "  --schemas DIR    the directory with postgres/ and clickhouse/ (default $OUTBOX_RELAY_SCHEMAS, else\n"
    "                   ../share/outbox-relay/schemas next to the binary)\n"
    "  --help           this text\n"
    "\n"
    "exit: 0 done; 1 a file failed, or a configured outbox table cannot be used yet; 2 bad usage; 78 bad "
    "configuration\n";

struct arguments {
    struct migrate_options options;
    bool clickhouse;
    const char *config, *schemas;
};

static bool parse_number(const char *text, int *number)
{
    char *end;
    long value = strtol(text, &end, 10);
    *number = (int)value;
    return end != text && *end == '\0' && value >= 0 && value <= 999;
}

// The words that are no options: the server, then what to do.
static int parse_words(int argc, char **argv, struct arguments *arguments)
{
    static const char *const actions[] = {[MIGRATE_UP] = "up", [MIGRATE_DOWN] = "down", [MIGRATE_STATUS] = "status"};
    if (optind >= argc) {
        return command_usage("migrate", "name the server: postgres or clickhouse");
    }
    arguments->clickhouse = strcmp(argv[optind], "clickhouse") == 0;
    if (!arguments->clickhouse && strcmp(argv[optind], "postgres") != 0) {
        return command_usage("migrate", "no server is called \"%s\": postgres or clickhouse", argv[optind]);
    }
    optind++;
    if (optind >= argc) {
        return 0;
    }
    for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++) {
        if (strcmp(argv[optind], actions[i]) == 0) {
            arguments->options.action = (enum migrate_action)i;
            optind++;
            return optind < argc ? command_usage("migrate", "\"%s\" is one word too many", argv[optind]) : 0;
        }
    }
    return command_usage("migrate", "\"%s\" is neither up, down nor status", argv[optind]);
}

// 0: go on; else the exit code, or -1 for help that was shown.
static int parse(int argc, char **argv, struct arguments *arguments)
{
    static const struct option options[] = {{"to", required_argument, NULL, 't'}, {"dry-run", no_argument, NULL, 'n'},
        {"baseline", no_argument, NULL, 'b'}, {"config", required_argument, NULL, 'c'},
        {"schemas", required_argument, NULL, 's'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    *arguments = (struct arguments){.options = {.to = MIGRATION_ALL}};
    optind = 0;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 't':
            if (!parse_number(optarg, &arguments->options.to)) {
                return command_usage("migrate", "--to %s is not a file's number from 0 to 999", optarg);
            }
            break;
        case 'n': arguments->options.dry_run = true; break;
        case 'b': arguments->options.baseline = true; break;
        case 'c': arguments->config = optarg; break;
        case 's': arguments->schemas = optarg; break;
        case 'h': fputs(help, stdout); return -1;
        default: return RELAY_EXIT_USAGE; // getopt has said why
        }
    }
    int code = parse_words(argc, argv, arguments);
    if (code == 0 && arguments->options.baseline && arguments->clickhouse) {
        return command_usage("migrate", "--baseline is for postgres: run clickhouse up, whose files may be run again");
    }
    if (code == 0 && arguments->options.baseline && arguments->options.action != MIGRATE_UP) {
        return command_usage("migrate", "--baseline goes with up");
    }
    return code;
}

static int exit_of(const struct relay_error *error)
{
    return error->code == RELAY_ERROR_USAGE ? RELAY_EXIT_USAGE : 1;
}

static int migrate(const struct command_environment *environment, void *context)
{
    const struct arguments *arguments = context;
    struct migration_files files;
    struct relay_error error = {0};
    bool done = false;
    setvbuf(stdout, NULL, _IOLBF, 0); // who watches a long migration through a pipe sees it too
    if (migration_files_read(&files, arguments->schemas, arguments->clickhouse ? "clickhouse" : "postgres", &error)) {
        done = (arguments->clickhouse ? migrate_clickhouse : migrate_postgres)(&environment->context,
            &arguments->options, &files, &error);
        migration_files_finish(&files);
    }
    if (!done) {
        fprintf(stderr, "outbox-relay migrate: %s\n", error.text);
    }
    return done ? 0 : exit_of(&error);
}

int command_migrate(int argc, char **argv)
{
    struct arguments arguments;
    int parsed = parse(argc, argv, &arguments);
    return command_perform("migrate", parsed, arguments.config, migrate, &arguments, 1);
}
