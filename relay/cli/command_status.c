// SPDX-License-Identifier: Apache-2.0
//
// `status`: one screen, from a daemon that answers or else from the servers; again every two seconds with --watch. A
// daemon speaks for itself: of what another replica owns or watches only the servers know, which --servers asks.
#include "relay/cli/commands.h"

#include "relay/cli/command_support.h"
#include "relay/cli/status.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help[] =
    "usage: outbox-relay status [options]\n"
    "\n"
    "One screen: outboxes and their owners, backlog, age, lag, tables, breakers, dead letters, last alerts. From the "
    "daemon\n"
    "of this configuration if it answers, else from PostgreSQL, Kafka and ClickHouse directly.\n"
    "\n"
    "  --config FILE    (default $OUTBOX_RELAY_CONFIG, else /etc/outbox-relay/outbox-relay.ini)\n"
    "  --url URL        URL of the daemon (default http:// and [http] listen)\n"
    "  --servers        what the servers say of all replicas (default: what one daemon says of itself)\n"
    "  --watch          refresh every 2 seconds until Ctrl-C (default: once)\n"
    "  --json           the whole document, with --watch one line each time (default: text)\n"
    "  --help           this text\n"
    "\n"
    "exit: 0 ok; 1 warning: something is degraded, or no relay owns an outbox; 2 critical: something is down, or an "
    "outbox is\n"
    "CRITICAL (and bad usage); 78 bad configuration\n";

#define EVERY           DURATION_S(2)
#define DAEMON_PATIENCE DURATION_S(2)

struct arguments {
    const char *config, *url;
    bool servers, watch, json;
};

// 0: go on; else the exit code, or -1 for help that was shown.
static int parse(int argc, char **argv, struct arguments *arguments)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
        {"url", required_argument, NULL, 'u'}, {"servers", no_argument, NULL, 's'}, {"watch", no_argument, NULL, 'w'},
        {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    *arguments = (struct arguments){0};
    optind = 0;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'c': arguments->config = optarg; break;
        case 'u': arguments->url = optarg; break;
        case 's': arguments->servers = true; break;
        case 'w': arguments->watch = true; break;
        case 'j': arguments->json = true; break;
        case 'h': fputs(help, stdout); return -1;
        default: return RELAY_EXIT_USAGE; // getopt has said why
        }
    }
    if (optind < argc) {
        return command_usage("status", "\"%s\" is one word too many", argv[optind]);
    }
    if (arguments->servers && arguments->url) {
        return command_usage("status", "--url names a daemon, and --servers asks none");
    }
    return 0;
}

static json_t *look(const struct relay_context *context, const struct arguments *arguments)
{
    if (arguments->servers) {
        return status_from_servers(context);
    }
    char url[300], why[400];
    status_url(context->config, url, sizeof(url));
    const char *daemon = arguments->url ? arguments->url : url;
    snprintf(why, sizeof(why), "[http] listen names no port");
    json_t *status = daemon[0] != '\0' ? status_from_daemon(daemon, DAEMON_PATIENCE, why, sizeof(why)) : NULL;
    if (status) {
        return status;
    }
    status = status_from_servers(context);
    if (status) {
        json_t *note = json_sprintf("no daemon answers: %s", why);
        json_object_set_new(status, "note", note);
    }
    return status;
}

// The text in one piece, each line cleared to its end, so that a screen that is drawn again does not flicker.
static void draw(const json_t *status, bool terminal, bool again)
{
    char *text = NULL;
    size_t length = 0;
    FILE *memory = open_memstream(&text, &length);
    if (!memory) {
        return;
    }
    status_print(memory, status, terminal && !getenv("NO_COLOR"));
    fclose(memory);
    if (!again || !terminal) {
        fputs(text, stdout);
    } else {
        fputs("\033[H", stdout);
        for (char *line = text, *end; *line != '\0'; line = end + 1) {
            end = strchr(line, '\n');
            printf("%.*s\033[K\n", (int)(end - line), line);
        }
        fputs("\033[J", stdout);
    }
    free(text);
}

static int show(const struct command_environment *environment, void *of)
{
    const struct relay_context *context = &environment->context;
    const struct arguments *arguments = of;
    bool terminal = isatty(STDOUT_FILENO) == 1;
    int level = 2;
    if (arguments->watch && terminal && !arguments->json) {
        fputs("\033[2J", stdout);
    }
    do {
        json_t *status = look(context, arguments);
        if (!status) {
            fprintf(stderr, "outbox-relay status: out of memory\n");
            return 2;
        }
        if (stop_raised(context->stop) && arguments->watch) {
            json_decref(status); // what was asked after Ctrl-C is no answer
            break;
        }
        level = status_level_of(status);
        if (arguments->json) {
            json_dumpf(status, stdout, arguments->watch ? JSON_COMPACT : JSON_INDENT(2));
            fputc('\n', stdout);
        } else {
            draw(status, terminal, arguments->watch);
        }
        fflush(stdout);
        json_decref(status);
    } while (arguments->watch && !ferror(stdout) &&
        !stop_wait(context->stop, context->clock, mono_add(clock_mono(context->clock), EVERY)));
    return level;
}

int command_status(int argc, char **argv)
{
    struct arguments arguments;
    int parsed = parse(argc, argv, &arguments);
    return command_perform("status", parsed, arguments.config, show, &arguments, 2);
}
