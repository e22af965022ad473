// SPDX-License-Identifier: Apache-2.0
#include "config_fixture.h"

#include <sys/ioctl.h>
#include <sys/wait.h>

static void setup(void)
{
    unsetenv("OUTBOX_RELAY_CONFIG");
}
TestSuite(config_environment, .init = setup);

#define SET(name, value) setenv("OUTBOX_RELAY_" name, value, 1)

static void set_minimal(void)
{
    SET("POSTGRES_DSN", "host=db");
    SET("KAFKA_BOOTSTRAP_SERVERS", "k:9092");
    SET("CLICKHOUSE_URL", "http://c:8123");
}

Test(config_environment, is_enough_alone)
{
    set_minimal();
    struct config *config = load_path(NULL);
    cr_assert_not_null(config, "%s", mistakes);
    cr_assert_str_eq(config->path, "");
    cr_assert_str_eq(config->postgres.dsn, "host=db");
    cr_assert_str_eq(config->kafka[0].name, "bootstrap.servers");
    cr_assert_eq(config->outbox_count, 1);
    config_free(config);
}

Test(config_environment, a_default_file_that_is_not_there_is_said_where_something_is_missing)
{
    cr_assert_neq(access("/etc/outbox-relay/outbox-relay.ini", F_OK), 0, "it is there on this machine: move it away");
    cr_assert_null(load_path(NULL));
    cr_assert_str_eq(error.text,
        "3 mistakes in the configuration; no file was named, and there is no /etc/outbox-relay/outbox-relay.ini");
}

Test(config_environment, names_the_file)
{
    char *path = make_file(MINIMAL "[log]\nlevel = error\n", strlen(MINIMAL "[log]\nlevel = error\n"));
    setenv("OUTBOX_RELAY_CONFIG", path, 1);
    struct config *config = load_path(NULL);
    cr_assert_not_null(config, "%s", mistakes);
    cr_assert_str_eq(config->path, path);
    cr_assert_eq(config->log.level, LOG_LEVEL_ERROR);
    config_free(config);
    unlink(path);
    cr_assert_null(load_path(NULL), "a file that was named must be there");
    cr_assert_not_null(strstr(mistakes, "cannot be opened"));
}

Test(config_environment, wins_over_the_file)
{
    SET("OUTBOX_BATCH_ROWS", "11");
    SET("CLICKHOUSE_PASSWORD", "mine");
    SET("KAFKA_CLIENT_ID", "c");
    SET("RUN_DRAIN_TIMEOUT", "9s");
    SET("BREAKER_KAFKA_OPEN", "3s");
    struct config *config = load_good(MINIMAL "password_file = /nonexistent\n[outbox]\nbatch_rows = 5\n");
    cr_assert_eq(config->outboxes[0].batch_rows, 11);
    cr_assert_str_eq(config->clickhouse.password, "mine");
    cr_assert_eq(config->kafka_count, 2);
    cr_assert_str_eq(config->kafka[1].name, "client.id");
    cr_assert_eq(config->drain_timeout.ns, DURATION_S(9).ns);
    cr_assert_eq(config->breakers[CONFIG_DEPENDENCY_KAFKA].open.ns, DURATION_S(3).ns);
    config_free(config);
}

Test(config_environment, reaches_named_sections)
{
    SET("OUTBOX_ORDERS_TABLE", "s.o");
    SET("OUTBOX_ORDERS_DEAD_LETTER_TABLE", "s.d");
    SET("OUTBOX_ORDERS_COLUMN_KEY", "k");
    SET("OUTBOX_BIG_ORDERS_TABLE", "s.b");
    SET("OUTBOX_DEFAULT_KEY", "{aggregate_type}");
    SET("OUTBOX_NEW_ONE_PREFIX", "n");
    SET("OUTBOX_NEW_ONE_TABLE", "s.n");
    SET("ROUTE_R_TOPICS", "t");
    SET("ROUTE_R_TABLE", "x");
    SET("ROUTE_R_COLUMNS", "a = $.a, b = $.b");
    SET("ROUTE_DEFAULT_ENABLED", "no");
    struct config *config = load_good(MINIMAL "[outbox]\n[outbox Orders]\n[outbox big-orders]\nbatch_rows = 3\n");
    cr_assert_eq(config->outbox_count, 4);
    cr_assert_str_eq(config->outboxes[0].publish.key, "{aggregate_type}");
    cr_assert_str_eq(config->outboxes[1].name, "Orders");
    cr_assert_str_eq(config->outboxes[1].table, "s.o");
    cr_assert_str_eq(config->outboxes[1].dead_letter_table, "s.d");
    cr_assert_str_eq(config->outboxes[1].columns[CONFIG_COLUMN_KEY], "k");
    cr_assert_str_eq(config->outboxes[2].name, "big-orders");
    cr_assert_str_eq(config->outboxes[2].table, "s.b");
    cr_assert_eq(config->outboxes[2].batch_rows, 3);
    cr_assert_str_eq(config->outboxes[3].name, "new_one");
    cr_assert_str_eq(config->outboxes[3].publish.prefix, "n");
    cr_assert_not(config->routes[0].enabled);
    cr_assert_str_eq(config->routes[1].name, "r");
    cr_assert_eq(config->routes[1].column_count, 2);
    config_free(config);
}

Test(config_environment, knows_librdkafkas_names)
{
    SET("KAFKA_SASL_MECHANISMS", "PLAIN");
    SET("KAFKA_ENABLE_SSL_CERTIFICATE_VERIFICATION", "false");
    char *path = make_file("pw\n", 3);
    SET("KAFKA_SASL_PASSWORD_FILE", path);
    struct config *config = load_good(MINIMAL);
    cr_assert_eq(config->kafka_count, 4);
    bool found = false;
    for (size_t i = 0; i < config->kafka_count; i++) {
        found |= strcmp(config->kafka[i].name, "sasl.password") == 0 && strcmp(config->kafka[i].value, "pw") == 0;
    }
    cr_assert(found);
    config_free(config);
    unlink(path);
}

Test(config_environment, a_secret_loses_one_line_end_as_in_a_file)
{
    static const char *const values[][2] = {{"pw\n", "pw"}, {"pw\r\n", "pw"}, {"pw\n\n", "pw\n"}, {"pw", "pw"}};
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        SET("POSTGRES_PASSWORD", values[i][0]);
        SET("KAFKA_SASL_PASSWORD", values[i][0]);
        struct config *config = load_good(MINIMAL);
        cr_assert_str_eq(config->postgres.password, values[i][1]);
        cr_assert_str_eq(config->kafka[config->kafka_count - 1].value, values[i][1]);
        config_free(config);
    }
}

// Writes a line, waits until it was read, writes the next: the reader comes to an empty pipe again and again.
static void write_slowly(int descriptor, const char *text)
{
    for (const char *end; *text != '\0'; text = end) {
        end = strchr(text, '\n') + 1;
        int unread = write(descriptor, text, (size_t)(end - text)) > 0;
        for (int rounds = 0; unread > 0 && rounds < 20000; rounds++) {
            usleep(1000);
            if (ioctl(descriptor, FIONREAD, &unread) != 0) {
                _exit(1);
            }
        }
    }
    _exit(0);
}

Test(config_environment, a_file_may_be_a_pipe_whose_writer_is_slow)
{
    int ends[2];
    char path[32];
    cr_assert_eq(pipe(ends), 0);
    pid_t writer = fork();
    if (writer == 0) {
        close(ends[0]);
        write_slowly(ends[1], "# 1\n# 2\n# 3\n# 4\n# 5\n# 6\n" MINIMAL);
    }
    cr_assert(writer > 0);
    close(ends[1]);
    snprintf(path, sizeof(path), "/dev/fd/%d", ends[0]);
    struct config *config = load_path(path);
    cr_assert_not_null(config, "%s", mistakes);
    config_free(config);
    close(ends[0]);
    waitpid(writer, NULL, 0);
}

static void assert_variable(const char *name, const char *value, const char *expected)
{
    setenv(name, value, 1);
    assert_mistake(MINIMAL, expected);
    cr_assert(strncmp(mistakes, "environment: ", 13) == 0);
    unsetenv(name);
}

Test(config_environment, mistakes_name_the_variable)
{
    assert_variable("OUTBOX_RELAY_POSTGRES_DNS", "x",
        "environment: OUTBOX_RELAY_POSTGRES_DNS: sets no known key; did you mean OUTBOX_RELAY_POSTGRES_DSN?");
    assert_variable("OUTBOX_RELAY_X", "x", "sets no known key; expected OUTBOX_RELAY_<SECTION>_<KEY>");
    assert_variable("OUTBOX_RELAY_INSERT_LINGER", "5",
        "environment: OUTBOX_RELAY_INSERT_LINGER: \"5\": expected a duration");
    assert_variable("OUTBOX_RELAY_KAFKA_GROUP_ID", "5", "environment: OUTBOX_RELAY_KAFKA_GROUP_ID: cannot be set");
    assert_variable("OUTBOX_RELAY_CLICKHOUSE_PASSWORD_FILE", "/nonexistent", "the file /nonexistent cannot be opened");
    assert_variable("OUTBOX_RELAY_POSTGRES_DSN", "",
        "environment: OUTBOX_RELAY_POSTGRES_DSN: is empty; expected host=");
    assert_variable("OUTBOX_RELAY_POSTGRES_DSN", " ", "environment: OUTBOX_RELAY_POSTGRES_DSN: is empty");
    assert_variable("OUTBOX_RELAY_ROUTE_R_COLUMN", "a", "sets no known key");
    assert_variable("OUTBOX_RELAY_KAFKA_BOOTSTRAP_SERVER", "a", "did you mean OUTBOX_RELAY_KAFKA_BOOTSTRAP_SERVERS?");
    assert_variable("OUTBOX_RELAY_OUTBOX_TABEL", "a", "did you mean OUTBOX_RELAY_OUTBOX_TABLE?");
}

Test(config_environment, a_secret_and_its_file_contradict_only_in_one_place)
{
    SET("CLICKHOUSE_PASSWORD", "a");
    struct config *config = load_good(MINIMAL "password_file = /nonexistent\n");
    cr_assert_str_eq(config->clickhouse.password, "a");
    config_free(config);
    SET("CLICKHOUSE_PASSWORD_FILE", "/b");
    assert_mistake(MINIMAL, "password and password_file are both set");
}

Test(config_environment, a_dsn_with_a_password_replaces_the_password_of_the_file)
{
    static const char file[] =
        "[postgres]\ndsn = host=db\npassword_file = /nonexistent\n[kafka]\nbootstrap.servers = k\n"
        "[clickhouse]\nurl = http://c\n";
    SET("POSTGRES_DSN", "host=other password=p");
    struct config *config = load_good(file);
    cr_assert_str_eq(config->postgres.dsn, "host=other password=p");
    cr_assert_str_eq(config->postgres.password, "");
    config_free(config);
    unsetenv("OUTBOX_RELAY_POSTGRES_DSN");
    char *path = make_file("host=third password=p\n", 22);
    SET("POSTGRES_DSN_FILE", path);
    config = load_good(file);
    cr_assert_str_eq(config->postgres.dsn, "host=third password=p");
    cr_assert_str_eq(config->postgres.password, "");
    config_free(config);
    unlink(path);
    unsetenv("OUTBOX_RELAY_POSTGRES_DSN_FILE");
    SET("POSTGRES_DSN", "host=other password=p");
    SET("POSTGRES_PASSWORD", "q");
    assert_mistake(file,
        "environment: OUTBOX_RELAY_POSTGRES_PASSWORD: OUTBOX_RELAY_POSTGRES_DSN holds a password too; expected one of "
        "them");
    unsetenv("OUTBOX_RELAY_POSTGRES_DSN");
    assert_mistake(
        "[postgres]\ndsn = host=db password=p\n[kafka]\nbootstrap.servers = k\n[clickhouse]\nurl = http://c\n",
        "environment: OUTBOX_RELAY_POSTGRES_PASSWORD: the dsn of line 2 holds a password too");
}

Test(config_environment, what_others_put_there_is_left_alone)
{
    SET("SCHEMAS", "/x");
    SET("CACHE", "/x");
    SET("CRASH_AT", "x");
    SET("DISABLE_SAFEGUARD", "x");
    // Kubernetes does this for a Service that is called outbox-relay, or outbox-relay-publish.
    SET("SERVICE_HOST", "10.0.0.1");
    SET("SERVICE_PORT", "8000");
    SET("SERVICE_PORT_HTTP", "8000");
    SET("PORT", "tcp://10.0.0.1:8000");
    SET("PORT_8000_TCP", "tcp://10.0.0.1:8000");
    SET("PORT_8000_TCP_ADDR", "10.0.0.1");
    SET("PUBLISH_SERVICE_HOST", "10.0.0.1");
    SET("PUBLISH_PORT_8000_TCP_PROTO", "tcp");
    setenv("OUTBOX_RELAYX", "x", 1);
    config_free(load_good(MINIMAL));
}
