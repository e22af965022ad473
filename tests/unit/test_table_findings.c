// SPDX-License-Identifier: Apache-2.0
//
// A replicated table as a scripted server describes it, with views into tables of several engines, and what is said
// about them.
#include "clickhouse_peer.h"
#include "encoder_fixture.h"
#include "relay/insert/table_findings.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TARGET(engine)                                                                                                 \
    engine "\t" engine " ORDER BY x SETTINGS non_replicated_deduplication_window = 100, "                              \
           "replicated_deduplication_window = 100\n"
#define VIEW(target) "MaterializedView\tdb." target "\t\n"

// To the questions of one reading, in their order.
static const char *const answers[] = {
    "db\n",                                                                               // currentDatabase()
    "non_replicated_deduplication_window\t0\nreplicated_deduplication_window\t1000\n",    // the server's defaults
    "u\tReplicatedMergeTree\tReplicatedMergeTree('/t', 'r') ORDER BY x\t\tx\n",           // the table
    "replicated_deduplication_window\t50\nreplicated_deduplication_window_seconds\t77\n", // of replicated tables
    "kafka_topic\tString\t\t\t0\t0\nkafka_partition\tInt32\t\t\t0\t0\nkafka_offset\tInt64\t\t\t0\t0\n", // its columns
    "1\n",                                                              // an index on the offset
    "/t\n",                                                             // where Keeper has it
    "db\tto_plain\ndb\tto_replicated\ndb\tto_shared\ndb\tto_nothing\n", // what hangs on it
    VIEW("plain"), TARGET("SummingMergeTree"), VIEW("replicated"), TARGET("ReplicatedSummingMergeTree"), VIEW("shared"),
    TARGET("SharedMergeTree"), VIEW("nothing"), "Null\tNull\n", //
    "", "", "", "",                                             // and on what those fill
};

// Of a table that is not replicated, with a view that cannot be seen, and one that is gone by now.
static const char *const of_unseen[] = {
    "db\n", "non_replicated_deduplication_window\t100\n", "u\tMergeTree\tMergeTree ORDER BY x\t\tx\n",
    "kafka_topic\tString\t\t\t0\t0\nkafka_partition\tInt32\t\t\t0\t0\nkafka_offset\tInt64\t\t\t0\t0\n", "1\n",
    "reports\tmv\nreports\tgone\n", //
    "", "1\n",                      // no such table; it still hangs there
    "", "0\n",                      // no such table, nor does it hang there
    "",                             // the newest blocks
};

struct peer {
    struct clickhouse_peer server;
    const char *const *answers;
    size_t count, asked;
};

static void handle(void *context, const struct http_seen *seen, struct http_reply *reply)
{
    static char answer[1000];
    struct peer *peer = context;
    const char *body = clickhouse_peer_learned(seen);
    if (!body) {
        body = peer->asked < peer->count ? peer->answers[peer->asked++] : "";
    }
    reply->answer = clickhouse_peer_ok(answer, sizeof(answer), body);
}

static size_t asked_for(const struct peer *peer, const char *words)
{
    size_t times = 0;
    for (size_t i = 0; i < http_script_requests(peer->server.http); i++) {
        const char *body = http_script_body(peer->server.http, i, NULL);
        times += body && strstr(body, words) ? 1 : 0;
    }
    return times;
}

static struct table_schema *read_from(const char *const *script, size_t count, size_t asks_for_replicated)
{
    struct peer peer = {.answers = script, .count = count};
    struct relay_error error;
    clickhouse_peer_start(&peer.server, handle, &peer, NULL);
    struct clickhouse_request request = {.endpoint = CLICKHOUSE_ANY_ENDPOINT, .timeout = DURATION_S(10)};
    struct table_schema *schema = table_schema_read(peer.server.client, &request, "", "t", &error);
    cr_assert_not_null(schema, "%s", error.text);
    cr_assert_eq(peer.asked, count);
    cr_assert_eq(asked_for(&peer, "FROM system.replicated_merge_tree_settings"), asks_for_replicated);
    clickhouse_peer_finish(&peer.server);
    return schema;
}

static struct table_schema *read_schema(void)
{
    return read_from(answers, sizeof(answers) / sizeof(answers[0]), 1);
}

Test(table_findings, a_views_target_is_known_by_its_engine)
{
    struct table_schema *schema = read_schema();
    cr_assert(schema->is_replicated);
    cr_assert_eq(schema->view_count, 4);
    static const bool mergetree[] = {true, true, true, false}, replicated[] = {false, true, true, false};
    for (size_t i = 0; i < schema->view_count; i++) {
        cr_assert_eq(schema->views[i].is_mergetree, mergetree[i], "%s", schema->views[i].view);
        cr_assert_eq(schema->views[i].is_replicated, replicated[i], "%s", schema->views[i].view);
        cr_assert(schema->views[i].has_window, "%s", schema->views[i].view);
    }
    table_schema_free(schema);
}

Test(table_findings, a_replicated_table_remembers_what_the_servers_section_for_these_says)
{
    struct table_schema *schema = read_schema();
    cr_assert_eq(schema->dedup_window, 50);
    cr_assert_eq(schema->dedup_seconds, 77);
    cr_assert_eq(schema->views[1].dedup_window, 100, "its own");
    cr_assert_eq(schema->views[1].dedup_seconds, 77);
    table_schema_free(schema);
}

Test(table_findings, a_target_that_is_not_replicated_under_a_replicated_table_is_a_warning)
{
    struct table_schema *schema = read_schema();
    struct table_findings findings = {0};
    struct relay_error error;
    bool possible;
    cr_assert(table_schema_exactly_once(schema, 2, NULL, 0, &possible, &findings, &error), "%s", error.text);
    cr_assert(possible);
    cr_assert_eq(findings.count, 1);
    cr_assert(!findings.items[0].fatal && !findings.items[0].prevents_exactly_once);
    cr_assert_str_eq(findings.items[0].what,
        "view db.to_plain fills db.plain, which is not replicated: after a crash in the middle of an INSERT it may "
        "lack rows that the table has");
    cr_assert_str_eq(findings.items[0].hint, "make db.plain a ReplicatedSummingMergeTree");
    table_findings_finish(&findings);
    table_schema_free(schema);
}

Test(table_findings, a_target_without_a_window_is_told_which_setting_its_engine_has)
{
    static const char *const settings[] = {"ALTER TABLE db.plain MODIFY SETTING non_replicated_deduplication_window",
        "ALTER TABLE db.replicated MODIFY SETTING replicated_deduplication_window",
        "ALTER TABLE db.shared MODIFY SETTING replicated_deduplication_window"};
    struct table_schema *schema = read_schema();
    struct table_findings findings = {0};
    struct relay_error error;
    bool possible;
    for (size_t i = 0; i < 3; i++) {
        schema->views[i].has_window = false;
    }
    cr_assert(table_schema_exactly_once(schema, 1, NULL, 0, &possible, &findings, &error), "%s", error.text);
    cr_assert(!possible);
    cr_assert_eq(findings.count, 3);
    for (size_t i = 0; i < 3; i++) {
        cr_assert(findings.items[i].prevents_exactly_once);
        cr_assert_eq(strncmp(findings.items[i].hint, settings[i], strlen(settings[i])), 0, "%s",
            findings.items[i].hint);
    }
    table_findings_finish(&findings);
    table_schema_free(schema);
}

Test(table_findings, a_view_that_cannot_be_seen_is_named)
{
    struct table_schema *schema = read_from(of_unseen, sizeof(of_unseen) / sizeof(of_unseen[0]), 0);
    struct table_findings findings = {0};
    struct relay_error error;
    bool possible;
    cr_assert_eq(schema->view_count, 1);
    cr_assert(table_schema_exactly_once(schema, 1, NULL, 0, &possible, &findings, &error), "%s", error.text);
    cr_assert(!possible);
    cr_assert_eq(findings.count, 1);
    cr_assert_str_eq(findings.items[0].what,
        "view reports.mv hangs on the table, but [clickhouse] user may not see it: reports.mv");
    cr_assert_eq(strncmp(findings.items[0].hint, "GRANT SHOW TABLES ON reports.*", 30), 0, "%s",
        findings.items[0].hint);
    table_findings_finish(&findings);
    table_schema_free(schema);
}

Test(table_findings, a_shared_table_behind_one_url_may_have_several_servers_there)
{
    struct table_schema *schema = read_schema();
    struct relay_error error;
    free(schema->engine);
    schema->engine = strdup("SharedMergeTree");
    for (size_t endpoints = 1; endpoints <= 2; endpoints++) {
        struct table_findings findings = {0};
        bool possible, told = false;
        cr_assert(table_schema_exactly_once(schema, endpoints, NULL, 0, &possible, &findings, &error), "%s",
            error.text);
        cr_assert(possible);
        for (size_t i = 0; i < findings.count; i++) {
            told = told ||
                (strstr(findings.items[i].what, "engine SharedMergeTree behind one url") != NULL &&
                    strstr(findings.items[i].what, "with one replica during each upgrade and scaling") != NULL &&
                    strstr(findings.items[i].hint, "count on at least once there") != NULL);
        }
        cr_assert_eq(told, endpoints == 1);
        table_findings_finish(&findings);
    }
    table_schema_free(schema);
}

Test(table_findings, an_engine_that_acknowledges_what_is_in_memory_only_is_named)
{
    struct table_schema *schema = read_schema();
    struct table_findings findings = {0};
    struct relay_error error;
    bool possible;
    free(schema->engine);
    schema->engine = strdup("Buffer");
    schema->is_mergetree = schema->is_replicated = false;
    cr_assert(table_schema_exactly_once(schema, 1, NULL, 0, &possible, &findings, &error), "%s", error.text);
    cr_assert_not(possible);
    cr_assert_eq(findings.count, 1);
    cr_assert_not_null(strstr(findings.items[0].what, "Buffer"));
    cr_assert_not_null(strstr(findings.items[0].what, "a crash of the server loses them"), "%s",
        findings.items[0].what);
    table_findings_finish(&findings);
    table_schema_free(schema);
}

Test(table_findings, with_one_server_there_is_nobody_who_could_lack_it)
{
    struct table_schema *schema = read_schema();
    struct table_findings findings = {0};
    struct relay_error error;
    bool possible;
    cr_assert(table_schema_exactly_once(schema, 1, NULL, 0, &possible, &findings, &error), "%s", error.text);
    cr_assert(possible);
    cr_assert_eq(findings.count, 0, "%s", findings.count > 0 ? findings.items[0].what : "");
    table_findings_finish(&findings);
    table_schema_free(schema);
}

Test(table_findings, a_partition_key_may_be_made_of_whatever_follows_from_the_row)
{
    static const char *const columns[] = {"at", "DateTime", "brand", "String", "day", "Date", "seen", "DateTime",
        "kafka_topic", "String", "kafka_partition", "Int32", "kafka_offset", "Int64", NULL};
    static const char *const sent[] = {"at", "brand", "kafka_topic", "kafka_partition", "kafka_offset"};
    static const struct {
        const char *key, *day, *seen;
        bool steady;
    } cases[] = {
        {"brand, toYYYYMM(at)", "", "now()", true},
        {"brand, day", "toDate(at)", "now()", true},
        {"brand, day", "toDate(`at`) + length(brand)", "now()", true},
        {"brand, day", "", "now()", true},
        {"brand, day", "today()", "", false},
        {"brand, day", "toDate(seen)", "now64(3)", false},
        {"brand, day", "toDate(seen)", "at", true},
        {"brand, day", "toDate(at) + (rand32() % 2)", "", false},
        {"rand() % 2", "", "", false},
    };
    struct relay_error error;
    bool possible;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct table_schema *schema = fixture_schema(columns);
        struct table_findings findings = {0};
        schema->partition_key = strdup(cases[i].key);
        schema->engine_full = strdup("");
        schema->engine = strdup("MergeTree");
        schema->is_mergetree = schema->offset_has_index = true;
        schema->dedup_window = 100;
        free(schema->columns[2].default_expression);
        schema->columns[2].default_expression = strdup(cases[i].day);
        free(schema->columns[3].default_expression);
        schema->columns[3].default_expression = strdup(cases[i].seen);
        schema->columns[1].in_partition_key = true;
        schema->columns[2].in_partition_key = strstr(cases[i].key, "day") != NULL;
        cr_assert(table_schema_exactly_once(schema, 1, sent, 5, &possible, &findings, &error), "%s", error.text);
        cr_assert_eq(possible, cases[i].steady, "%zu: %s", i, findings.count > 0 ? findings.items[0].what : "");
        cr_assert_eq(findings.count, cases[i].steady ? 0 : 1);
        table_findings_finish(&findings);
        table_schema_free(schema);
    }
}

Test(table_findings, engines_and_lifetimes_that_take_rows_away_are_known)
{
    static const char *const columns[] = {"at", "DateTime", "kafka_topic", "String", "kafka_partition", "Int32",
        "kafka_offset", "Int64", NULL};
    static const struct {
        const char *engine, *full;
        bool in_key, merges, removes;
    } cases[] = {
        {"MergeTree", "MergeTree ORDER BY at", false, false, false},
        {"MergeTree", "MergeTree ORDER BY at TTL at + toIntervalDay(1) SETTINGS index_granularity = 8192", false, false,
            true},
        {"MergeTree", "MergeTree ORDER BY at TTL at + toIntervalDay(1) TO VOLUME 'cold' SETTINGS a = 1", false, false,
            false},
        {"MergeTree",
            "MergeTree ORDER BY at TTL at + f(1, 2) TO DISK 'd', at + toIntervalDay(9) RECOMPRESS CODEC(ZSTD)", false,
            false, false},
        {"MergeTree", "MergeTree ORDER BY at TTL at + toIntervalDay(1) TO VOLUME 'cold', at + toIntervalDay(9)", false,
            false, true},
        {"MergeTree", "MergeTree ORDER BY at TTL at + toIntervalDay(1) GROUP BY at SET x = sum(x)", false, true, true},
        {"ReplicatedSummingMergeTree", "ReplicatedSummingMergeTree ORDER BY at", false, true, false},
        {"ReplacingMergeTree", "ReplacingMergeTree ORDER BY (kafka_topic, kafka_partition, kafka_offset)", true, false,
            false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct table_schema *schema = fixture_schema(columns);
        schema->is_mergetree = true;
        schema->engine = strdup(cases[i].engine);
        schema->engine_full = strdup(cases[i].full);
        for (size_t j = 1; j < schema->column_count; j++) {
            schema->columns[j].in_sorting_key = cases[i].in_key;
        }
        cr_assert_eq(table_schema_merges_rows(schema), cases[i].merges, "%s", cases[i].full);
        cr_assert_eq(table_schema_ttl_removes_rows(schema), cases[i].removes, "%s", cases[i].full);
        table_schema_free(schema);
    }
}
