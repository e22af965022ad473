// SPDX-License-Identifier: Apache-2.0
//
// `dead-letters`: walks over the dead letters of both stages page by page, and lists, shows, retries or drops them. A
// stage whose server does not answer is said, and the other one is still served. retry and drop touch what was there
// when they began, or when drop asked: what comes meanwhile nobody has counted, and a letter that was put back may come
// again under a higher number for as long as its cause stays.
#include "relay/cli/commands.h"

#include "relay/base/utf8.h"
#include "relay/cli/command_support.h"
#include "relay/cli/dead_letters.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "usage: outbox-relay dead-letters list|show|retry|drop [options]\n"
    "\n"
    "Events that could not be published (PostgreSQL) or inserted (ClickHouse), with the reason.\n"
    "\n"
    "  list             one line each, oldest first\n"
    "  show             everything about each, payloads included\n"
    "  retry            put them back: into their outbox with the same event id, or into their table unless it has the "
    "row\n"
    "                   (one at a time for a table, also of replays into it). An event of the outbox is published "
    "after\n"
    "                   newer ones of its aggregate, with a higher seq: where consumers keep only the latest state, "
    "drop it\n"
    "  drop             delete them for good\n"
    "\n"
    "  --stage STAGE    publish or insert (default: both)\n"
    "  --since T        failed at T or later (default: any time)\n"
    "  --until T        failed before T (default: any time)\n"
    "  --type X         of this event type (default: any)\n"
    "  --reason R       with this reason code (default: any)\n"
    "  --id ID          this one, as list prints it; may be given several times (default: any)\n"
    "  --limit N        at most N of them (default 100 for list, 10 for show, no limit for retry and drop)\n"
    "  --all            required by retry and drop if no filter is given\n"
    "  --json           list and show: one JSON document (default: text)\n"
    "  --yes            drop without asking (default: asks)\n"
    "  --config FILE    (default $OUTBOX_RELAY_CONFIG, else /etc/outbox-relay/outbox-relay.ini)\n"
    "  --help           this text\n"
    "\n"
    "T: a date like 2026-03-01T12:34:56Z, or how long ago like 2h, 3d or 1h30m\n"
    "exit: 0 done; 1 some stay, an --id is not there, or a server did not answer; 2 bad usage; 78 bad configuration\n";

enum action { LIST, SHOW, RETRY, DROP };
#define PAGE    100
#define IDS_MAX 1000

struct arguments {
    enum action action;
    struct letter_filter filter;
    struct letter_id *ids;
    bool publish, insert, all, json, yes;
    long limit; // -1: none
    const char *config;
};

static bool same_letter(const struct letter_id *a, const struct letter_id *b)
{
    return a->stage == b->stage && a->number == b->number && a->partition == b->partition &&
        strcmp(a->table, b->table) == 0 && strcmp(a->topic, b->topic) == 0;
}

static int add_id(struct arguments *arguments, const char *text)
{
    struct relay_error error;
    size_t count = arguments->filter.id_count;
    struct letter_id *grown = count < IDS_MAX ? realloc(arguments->ids, (count + 1) * sizeof(*grown)) : NULL;
    if (!grown) {
        return command_usage("dead-letters", "too many ids: %d at most", IDS_MAX);
    }
    arguments->ids = grown;
    if (!letter_id_parse(text, &grown[count], &error)) {
        return command_usage("dead-letters", "%s", error.text);
    }
    arguments->filter.ids = grown;
    for (size_t i = 0; i < count; i++) {
        if (same_letter(&grown[i], &grown[count])) {
            return 0; // it is looked for once
        }
    }
    arguments->filter.id_count = count + 1;
    return 0;
}

static int parse_stage(struct arguments *arguments, const char *text)
{
    arguments->publish = strcmp(text, "publish") == 0;
    arguments->insert = strcmp(text, "insert") == 0;
    return arguments->publish || arguments->insert
        ? 0
        : command_usage("dead-letters", "--stage %s is neither publish nor insert", text);
}

static int parse_limit(struct arguments *arguments, const char *text)
{
    char *end;
    arguments->limit = strtol(text, &end, 10);
    return end != text && *end == '\0' && arguments->limit > 0
        ? 0
        : command_usage("dead-letters", "--limit %s is no number above 0", text);
}

// One option; returns 0, or the exit code.
static int take_option(struct arguments *arguments, int option, const char *value)
{
    struct letter_filter *filter = &arguments->filter;
    switch (option) {
    case 'S': return parse_stage(arguments, value);
    case 's': filter->since_given = true; return command_time_argument("dead-letters", value, &filter->since);
    case 'u': filter->until_given = true; return command_time_argument("dead-letters", value, &filter->until);
    case 't': filter->type = value; return 0;
    case 'r': filter->reason = value; return 0;
    case 'i': return add_id(arguments, value);
    case 'l': return parse_limit(arguments, value);
    case 'a': arguments->all = true; return 0;
    case 'j': arguments->json = true; return 0;
    case 'y': arguments->yes = true; return 0;
    case 'c': arguments->config = value; return 0;
    default: return RELAY_EXIT_USAGE; // getopt has said why
    }
}

static int parse_action(int argc, char **argv, struct arguments *arguments)
{
    static const char *const actions[] = {[LIST] = "list", [SHOW] = "show", [RETRY] = "retry", [DROP] = "drop"};
    if (optind >= argc) {
        return command_usage("dead-letters", "say what to do: list, show, retry or drop");
    }
    for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++) {
        if (strcmp(argv[optind], actions[i]) == 0) {
            arguments->action = (enum action)i;
            return optind + 1 < argc ? command_usage("dead-letters", "\"%s\" is one word too many", argv[optind + 1])
                                     : 0;
        }
    }
    return command_usage("dead-letters", "\"%s\" is neither list, show, retry nor drop", argv[optind]);
}

static bool is_filtered(const struct letter_filter *filter)
{
    return filter->since_given || filter->until_given || filter->type || filter->reason || filter->id_count > 0;
}

// 0: go on; else the exit code, or -1 for help that was shown.
static int parse(int argc, char **argv, struct arguments *arguments)
{
    static const struct option options[] = {{"stage", required_argument, NULL, 'S'},
        {"since", required_argument, NULL, 's'}, {"until", required_argument, NULL, 'u'},
        {"type", required_argument, NULL, 't'}, {"reason", required_argument, NULL, 'r'},
        {"id", required_argument, NULL, 'i'}, {"limit", required_argument, NULL, 'l'}, {"all", no_argument, NULL, 'a'},
        {"json", no_argument, NULL, 'j'}, {"yes", no_argument, NULL, 'y'}, {"config", required_argument, NULL, 'c'},
        {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    *arguments = (struct arguments){.limit = -1, .publish = true, .insert = true};
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
    int code = parse_action(argc, argv, arguments);
    const struct letter_filter *filter = &arguments->filter;
    if (code == 0 && arguments->action >= RETRY && !is_filtered(filter) && !arguments->all) {
        return command_usage("dead-letters", "%s without a filter wants --all",
            arguments->action == RETRY ? "retry" : "drop");
    }
    if (code == 0 && filter->since_given && filter->until_given && filter->until.us <= filter->since.us) {
        return command_usage("dead-letters", "--until is not after --since");
    }
    if (arguments->limit < 0) {
        arguments->limit = arguments->action == LIST ? 100 : arguments->action == SHOW ? 10 : -1;
    }
    return code;
}

// The walk

struct walk {
    const struct relay_context *context;
    const struct arguments *arguments;
    struct pg_connection *connection;
    struct clickhouse_client *client;
    struct insert_retry *retry;
    long left;                   // of the limit; -1: none
    json_t *listed;              // LIST, SHOW
    struct letter_bound *bounds; // RETRY, DROP: one for each outbox, and ClickHouse's
    size_t done, present, stayed;
    size_t seen;   // rows that the filter took, over all tables
    bool counting; // only that
};

// What is done to a page; table: of PostgreSQL.
typedef bool page_action(struct walk *walk, const char *table, const json_t *page, struct relay_error *error);

static bool pass_page(struct walk *walk, const char *table, const json_t *page, struct relay_error *error)
{
    (void)table, (void)page;
    return !stop_raised(walk->context->stop) || error_set(error, RELAY_ERROR_STOPPED, "stopped");
}

static bool gather_page(struct walk *walk, const char *table, const json_t *page, struct relay_error *error)
{
    (void)table;
    return json_array_extend(walk->listed, (json_t *)(uintptr_t)page) == 0 ||
        error_no_memory(error, "listing dead letters");
}

static bool act_on_published(struct walk *walk, const char *table, const json_t *page, struct relay_error *error)
{
    size_t i;
    json_t *one;
    json_array_foreach(page, i, one)
    {
        struct letter_id id;
        bool gone, done;
        const char *text = json_string_value(json_object_get(one, "id"));
        if (stop_raised(walk->context->stop)) {
            return error_set(error, RELAY_ERROR_STOPPED, "stopped");
        }
        if (!letter_id_parse(text, &id, error)) {
            return false;
        }
        done = walk->arguments->action == RETRY
            ? publish_letter_retry(walk->context, walk->connection, table, id.number, &gone, error)
            : publish_letter_drop(walk->context, walk->connection, table, id.number, &gone, error);
        if (!done && (pg_broken(walk->connection) || error->class == RELAY_CLASS_RETRIABLE)) {
            return false;
        }
        if (!done && strcmp(pg_last_sqlstate(walk->connection), "42501") == 0) {
            walk->stayed += json_array_size(page) - i;
            return error_set(error, RELAY_ERROR_POSTGRES_OPERATOR,
                "role %s may not: permission denied; GRANT outbox_operator TO a login (the daemon's has no such "
                "rights), "
                "and name that in OUTBOX_RELAY_POSTGRES_DSN",
                PQuser(pg_libpq(walk->connection)));
        }
        if (!done) {
            fprintf(stderr, "%s stays: %s\n", text, error->text);
        }
        walk->done += done && !gone;
        walk->stayed += !done;
    }
    return true;
}

static bool act_on_inserted(struct walk *walk, const char *table, const json_t *page, struct relay_error *error)
{
    (void)table;
    if (stop_raised(walk->context->stop)) {
        return error_set(error, RELAY_ERROR_STOPPED, "stopped");
    }
    if (walk->arguments->action == DROP) {
        bool dropped = insert_letters_drop(walk->context, walk->client, page, error);
        walk->done += dropped ? json_array_size(page) : 0;
        walk->stayed += dropped ? 0 : json_array_size(page);
        return dropped;
    }
    struct letter_counts counts = {0};
    bool done = insert_retry_page(walk->retry, page, &counts, error);
    walk->done += counts.done;
    walk->present += counts.present;
    walk->stayed += counts.left;
    return done;
}

// The first walk takes the bound, a second one keeps it. table NULL: ClickHouse's.
static bool set_bound(const struct walk *walk, const char *table, struct letter_bound *bound, struct relay_error *error)
{
    return walk->arguments->action <= SHOW || bound->known ||
        (table ? publish_letters_bound(walk->context, walk->connection, table, bound, error)
               : insert_letters_bound(walk->context, walk->client, bound, error));
}

static bool walk_table(struct walk *walk, const char *table, struct letter_bound *bound, page_action *action,
    struct relay_error *error)
{
    if (!set_bound(walk, table, bound, error)) {
        return false;
    }
    struct letter_cursor cursor = {.bound = *bound};
    bool whole = walk->arguments->action == SHOW;
    while (walk->left != 0) {
        size_t want = walk->left > 0 && walk->left < PAGE ? (size_t)walk->left : PAGE;
        json_t *page = json_array();
        bool done = table ? publish_letters_page(walk->context, walk->connection, table, &walk->arguments->filter, want,
                                whole, &cursor, page, error)
                          : insert_letters_page(walk->context, walk->client, &walk->arguments->filter, want, whole,
                                &cursor, page, error);
        size_t found = json_array_size(page);
        done = done && (found == 0 || action(walk, table, page, error));
        json_decref(page);
        if (!done) {
            return false;
        }
        walk->left -= walk->left > 0 ? (long)found : 0;
        walk->seen += found;
        if (found < want) {
            break;
        }
    }
    return true;
}

static bool asks_for(const struct letter_filter *filter, enum letter_stage stage)
{
    for (size_t i = 0; i < filter->id_count; i++) {
        if (filter->ids[i].stage == stage) {
            return true;
        }
    }
    return filter->id_count == 0;
}

static page_action *action_of(const struct walk *walk, page_action *act)
{
    return walk->counting ? pass_page : walk->arguments->action <= SHOW ? gather_page : act;
}

static bool walk_publish(struct walk *walk, struct relay_error *error)
{
    const struct config *config = walk->context->config;
    struct pg_options options = {.role = "dead-letters",
        .brief = true,
        .read_write = walk->arguments->action >= RETRY,
        .primary_first = true};
    walk->connection = pg_connect(walk->context, &options, error);
    bool done = walk->connection != NULL;
    for (size_t i = 0; done && i < config->outbox_count; i++) {
        bool before = false; // outboxes may share a table
        for (size_t j = 0; j < i && !before; j++) {
            before = strcmp(config->outboxes[i].dead_letter_table, config->outboxes[j].dead_letter_table) == 0;
        }
        if (!before) {
            done = walk_table(walk, config->outboxes[i].dead_letter_table, &walk->bounds[i],
                action_of(walk, act_on_published), error);
        }
    }
    pg_close(walk->connection);
    return done;
}

// Without a limit nobody has to know which they are.
static bool drop_inserted(struct walk *walk, struct letter_bound *bound, struct relay_error *error)
{
    size_t count;
    if (!set_bound(walk, NULL, bound, error)) {
        return false;
    }
    bool done = insert_letters_drop_all(walk->context, walk->client, &walk->arguments->filter, bound, &count, error);
    walk->done += done ? count : 0;
    walk->stayed += done ? 0 : count;
    walk->seen += count;
    return done;
}

static bool retry_inserted(struct walk *walk, struct letter_bound *bound, struct relay_error *error)
{
    struct relay_error second;
    walk->retry = insert_retry_open(walk->context, walk->client, error);
    if (!walk->retry) {
        return false;
    }
    bool done = walk_table(walk, NULL, bound, act_on_inserted, error);
    return insert_retry_close(walk->retry, done ? error : &second) && done;
}

static bool walk_insert(struct walk *walk, struct relay_error *error)
{
    struct letter_bound *bound = &walk->bounds[walk->context->config->outbox_count];
    enum action action = walk->counting ? LIST : walk->arguments->action;
    walk->client = clickhouse_client_new(walk->context, error);
    if (!walk->client) {
        return false;
    }
    bool done;
    if (action == RETRY) {
        done = retry_inserted(walk, bound, error);
    } else if (action == DROP && walk->left < 0) {
        done = drop_inserted(walk, bound, error);
    } else {
        done = walk_table(walk, NULL, bound, action_of(walk, act_on_inserted), error);
    }
    clickhouse_client_free(walk->client);
    return done;
}

static bool walk_all(struct walk *walk)
{
    const struct arguments *arguments = walk->arguments;
    const struct config *config = walk->context->config;
    struct relay_error error;
    bool done = true;
    // A stage that is off in this configuration has none, unless it is asked for by name.
    if (arguments->publish && (config->publish.enabled || !arguments->insert) &&
        asks_for(&arguments->filter, LETTER_PUBLISH) && !walk_publish(walk, &error)) {
        fprintf(stderr, "outbox-relay dead-letters: publish stage: %s\n", error.text);
        done = false;
    }
    if (arguments->insert && (config->insert.enabled || !arguments->publish) &&
        asks_for(&arguments->filter, LETTER_INSERT) && !walk_insert(walk, &error)) {
        fprintf(stderr, "outbox-relay dead-letters: insert stage: %s\n", error.text);
        done = false;
    }
    return done;
}

// What is printed

// Headers and payloads are whatever somebody has sent.
static void print_value(const json_t *value)
{
    if (json_is_string(value)) {
        utf8_print(stdout, json_string_value(value), json_string_length(value));
    } else if (value) {
        char *text = json_dumps(value, JSON_ENCODE_ANY);
        utf8_print(stdout, text ? text : "", text ? strlen(text) : 0);
        free(text);
    }
}

static void print_line(const json_t *letter)
{
    static const struct {
        const char *name, *after;
    } cells[] = {{"id", "  "}, {"at", "  "}, {"place", "  "}, {"event_type", "  "}, {"reason", ": "}, {"text", "\n"}};
    for (size_t i = 0; i < sizeof(cells) / sizeof(cells[0]); i++) {
        const json_t *value = json_object_get(letter, cells[i].name);
        print_value(json_is_string(value) ? value : NULL);
        fputs(cells[i].after, stdout);
    }
}

static void print_letters(const json_t *letters, bool whole)
{
    size_t i;
    json_t *letter;
    json_array_foreach(letters, i, letter)
    {
        if (!whole) {
            print_line(letter);
            continue;
        }
        const char *name;
        json_t *value;
        json_object_foreach(letter, name, value)
        {
            printf("%-16s ", name);
            print_value(value);
            putchar('\n');
        }
        putchar('\n');
    }
}

// Within a document, events are JSON and no text, unless a number is too large for jansson.
static void open_events(const json_t *letters)
{
    size_t i;
    json_t *letter;
    json_array_foreach(letters, i, letter)
    {
        const char *text = json_string_value(json_object_get(letter, "event"));
        json_t *event = text ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
        if (event) {
            json_object_set_new(letter, "event", event);
        }
    }
}

// Whether each --id was there; tells when not. (With --limit nobody knows.)
static bool all_seen(const struct walk *walk)
{
    size_t wanted = walk->arguments->filter.id_count;
    if (walk->seen >= wanted || walk->left == 0) {
        return true;
    }
    fprintf(stderr, "outbox-relay dead-letters: %zu of %zu --id match no dead letter\n", wanted - walk->seen, wanted);
    return false;
}

static int list(struct walk *walk)
{
    const struct arguments *arguments = walk->arguments;
    walk->listed = json_array();
    bool done = walk_all(walk);
    if (arguments->json) {
        open_events(walk->listed);
        json_t *all = json_pack("{s:O}", "dead_letters", walk->listed);
        json_dumpf(all, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(all);
    } else {
        print_letters(walk->listed, arguments->action == SHOW);
        if (done && json_array_size(walk->listed) == 0) {
            printf("no dead letters%s\n", is_filtered(&arguments->filter) ? " that the filter takes" : "");
        }
        if (walk->left == 0) {
            printf("(the first %ld; --limit N shows more)\n", arguments->limit);
        }
    }
    json_decref(walk->listed);
    return done && all_seen(walk) ? 0 : 1;
}

// What is left of a letter that is dropped. The message of the insert stage's is in Kafka for as long as the topic
// keeps it, and a copy of it where dead_letter_topic is set.
static const char *left_of(const struct arguments *arguments)
{
    return !arguments->insert ? "There is no other copy."
        : !arguments->publish ? "Kafka may still have their messages."
                              : "There is no other copy of those of the publish stage; of those of the insert stage "
                                "Kafka may still have the messages.";
}

// Says how many it would be, unless none.
static bool confirmed(const struct walk *walk)
{
    char answer[16] = "";
    if (walk->arguments->action != DROP || walk->arguments->yes) {
        return true;
    }
    struct walk count = *walk;
    count.counting = true;
    if (!walk_all(&count)) {
        return false;
    }
    if (count.seen == 0) {
        return true;
    }
    fprintf(stderr, "Delete %zu dead letter%s for good? %s [y/N] ", count.seen, count.seen == 1 ? "" : "s",
        left_of(walk->arguments));
    fflush(stderr);
    return fgets(answer, sizeof(answer), stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

static int act(struct walk *walk)
{
    if (!confirmed(walk)) {
        fprintf(stderr, "nothing was deleted\n");
        return 1;
    }
    bool done = walk_all(walk);
    if (walk->arguments->action == DROP) {
        printf("%zu dropped, %zu stay\n", walk->done, walk->stayed);
    } else {
        printf("%zu put back, %zu were there already, %zu stay\n", walk->done, walk->present, walk->stayed);
    }
    return done && all_seen(walk) && walk->stayed == 0 ? 0 : 1;
}

static int work(const struct command_environment *environment, void *context)
{
    const struct arguments *arguments = context;
    struct walk walk = {.context = &environment->context, .arguments = arguments, .left = arguments->limit};
    walk.bounds = calloc(environment->context.config->outbox_count + 1, sizeof(*walk.bounds));
    if (!walk.bounds) {
        fputs("outbox-relay dead-letters: out of memory\n", stderr);
        return 1;
    }
    int code = arguments->action <= SHOW ? list(&walk) : act(&walk);
    free(walk.bounds);
    return code;
}

int command_dead_letters(int argc, char **argv)
{
    struct arguments arguments;
    int parsed = parse(argc, argv, &arguments);
    int code = command_perform("dead-letters", parsed, arguments.config, work, &arguments, 1);
    free(arguments.ids);
    return code;
}
