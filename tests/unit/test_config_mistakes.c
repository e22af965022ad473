// SPDX-License-Identifier: Apache-2.0
//
// Everything that an operator may get wrong, and the words that he gets for it.
#include "config_fixture.h"

#include <openssl/ec.h>
#include <openssl/pem.h>
#include <sys/mman.h>
#include <sys/stat.h>

Test(config_mistakes, all_are_told_at_once_in_the_order_of_lines)
{
    static char text[8192];
    int used = snprintf(text, sizeof(text), MINIMAL);
    for (int i = 0; i < 20; i++) {
        used += snprintf(text + used, sizeof(text) - (size_t)used, "nonsense%d = 1\nrubbish %d\n", i, i);
    }
    cr_assert_null(load_bytes(text, (size_t)used));
    cr_assert_eq(mistake_count(), 40);
    cr_assert_not_null(strstr(error.text, "40 mistakes in the configuration /tmp/relay-config-"));
    const char *at = mistakes;
    for (int line = 7; line < 47; line++) {
        char number[16];
        snprintf(number, sizeof(number), ":%d: ", line);
        at = strstr(at, number);
        cr_assert_not_null(at, "line %d comes in its turn", line);
    }
}

Test(config_mistakes, a_file_that_is_none_ends_early)
{
    static char text[300 * 10];
    for (size_t i = 0; i < sizeof(text); i += 10) {
        memcpy(text + i, "nonsense!\n", 10);
    }
    cr_assert_null(load_bytes(text, sizeof(text)));
    cr_assert_eq(mistake_count(), 201);
    cr_assert_not_null(strstr(mistakes, "... and "));
}

Test(config_mistakes, a_file_that_cannot_be_read_or_is_too_large)
{
    cr_assert_null(load_path("/nonexistent/relay.ini"));
    cr_assert_str_eq(mistakes, "/nonexistent/relay.ini: cannot be opened: No such file or directory\n");
    cr_assert_null(load_path("/tmp"));
    cr_assert_str_eq(mistakes, "/tmp: is a directory; expected a file\n");
    char *path = make_file(MINIMAL, strlen(MINIMAL));
    chmod(path, 0);
    if (geteuid() != 0) { // root reads everything
        cr_assert_null(load_path(path));
        cr_assert_not_null(strstr(mistakes, "cannot be opened: Permission denied"));
    }
    unlink(path);
    char *pipe = make_file("", 0);
    unlink(pipe);
    cr_assert_eq(mkfifo(pipe, 0600), 0);
    cr_assert_null(load_path(pipe), "a pipe that nobody writes to is an empty file, not a wait for ever");
    unlink(pipe);
    static char large[2 * 1024 * 1024];
    memset(large, '\n', sizeof(large));
    cr_assert_null(load_bytes(large, sizeof(large)));
    cr_assert_not_null(strstr(mistakes, "is larger than 1024 KiB"));
    cr_assert_eq(mistake_count(), 1);
}

Test(config_mistakes, bytes_that_are_no_text)
{
    static const char zeros[] = MINIMAL "[log]\nlevel = in\0fo\n";
    cr_assert_null(load_bytes(zeros, sizeof(zeros) - 1));
    cr_assert_not_null(strstr(mistakes, ":8: a NUL byte"), "%s", mistakes);
    assert_mistake(MINIMAL "password = \xff\n", ":7: a byte that is not UTF-8; save the file as UTF-8");
    static const char marked[] = "\xef\xbb\xbf" MINIMAL;
    struct config *config = load_bytes(marked, sizeof(marked) - 1);
    cr_assert_not_null(config, "a UTF-8 mark is no mistake: %s", mistakes);
    config_free(config);
}

Test(config_mistakes, an_empty_file_lacks_what_cannot_be_guessed)
{
    cr_assert_null(load_bytes("", 0));
    cr_assert_not_null(strstr(mistakes, "[postgres] dsn: is missing; expected host="));
    cr_assert_not_null(strstr(mistakes, "[kafka] bootstrap.servers: is missing; expected host:port"));
    cr_assert_not_null(strstr(mistakes, "[clickhouse] url: is missing; expected http://host:8123"));
    cr_assert_eq(mistake_count(), 3);
}

Test(config_mistakes, an_empty_dsn_would_connect_to_anything)
{
    assert_mistake("[postgres]\ndsn =\n[kafka]\nbootstrap.servers = k\n[clickhouse]\nurl = http://c\n",
        ":2: [postgres] dsn: is empty; expected host=");
    config_free(load_good("[postgres]\ndsn =\n[publish]\nenabled = no\n[kafka]\nbootstrap.servers = k\n"
                          "[clickhouse]\nurl = http://c\n"));
}

Test(config_mistakes, sections_that_are_unknown_repeated_or_misnamed)
{
    assert_mistake(MINIMAL "[postgers]\nx = y\n", ":7: [postgers]: unknown section; did you mean [postgres]?");
    assert_mistake(MINIMAL "[weather]\n", ":7: [weather]: unknown section; see docs/configuration.md");
    assert_mistake(MINIMAL "[insert two]\n", "[insert two]: this section takes no name; expected [insert]");
    assert_mistake(MINIMAL "[route]\ntopics = a\n", ":7: [route]: a route needs a name; expected [route NAME]");
    assert_mistake(MINIMAL "[outbox a/b]\n", "expected a name of at most 48 letters");
    assert_mistake(MINIMAL "[log]\n[http]\n[log]\n", ":9: [log]: this section is there twice, first in line 7");
    assert_mistake(MINIMAL "[outbox a]\n[outbox a]\n", ":8: [outbox a]: this section is there twice, first in line 7");
    assert_mistake(MINIMAL "[outbox]\n[outbox default]\n",
        ":8: [outbox default]: this section is there twice, first in line 7");
    assert_mistake("a = b\n" MINIMAL, ":1: a stands before any [section]");
    assert_mistake(MINIMAL "[log\n", ":7: the ] of the section is missing");
    assert_mistake(MINIMAL "[log] ; noisy\n", ":7: nothing may follow a section's ]");
    assert_mistake(MINIMAL "just words\n", ":7: expected [section], key = value");
}

Test(config_mistakes, keys_that_are_unknown_or_set_twice)
{
    assert_mistake(MINIMAL "[insert]\nbatch_row = 5\n",
        ":8: [insert] batch_row: unknown key; did you mean batch_rows?");
    assert_mistake(MINIMAL "[publish]\nlinger = 5s\n", "[publish] linger: unknown key here; it belongs to [insert]");
    assert_mistake(MINIMAL "[log]\nzzzzzz = 5s\n", "[log] zzzzzz: unknown key; see docs/configuration.md");
    assert_mistake(MINIMAL "[log]\nlevel = info\nlevel = debug\n",
        ":9: [log] level: is set twice, first in line 8; expected once");
    assert_mistake(MINIMAL "[outbox]\ncolumn.keys = a\n", "did you mean column.key?");
    assert_mistake(MINIMAL "[outbox]\nguarantees = exactly_once\n", "did you mean guarantee?");
    assert_mistake(MINIMAL "database_file = /x\n", "[clickhouse] database_file: unknown key");
}

Test(config_mistakes, values_of_another_kind_or_out_of_range)
{
    assert_mistake(MINIMAL "[insert]\nlinger = 5\n", ":8: [insert] linger: \"5\": expected a duration with its unit");
    assert_mistake(MINIMAL "[insert]\nlinger = 1s ; soon\n", "(a comment stands on a line of its own)");
    assert_mistake(MINIMAL "[insert]\nlinger = 10m\n", "[insert] linger: \"10m\": expected 0s to 5m");
    assert_mistake(MINIMAL "[outbox]\nbatch_rows = 0\n", "\"0\": expected 1 to 100000");
    assert_mistake(MINIMAL "[outbox]\nbatch_bytes = 8MB\n", "\"8MB\": expected a size such as 64KiB");
    assert_mistake(MINIMAL "[outbox]\nbatch_bytes = 2GiB\n", "\"2GiB\": expected 1KiB to 1GiB");
    assert_mistake(MINIMAL "[outbox]\ndisposition = remove\n", "\"remove\": expected delete or mark");
    assert_mistake(MINIMAL "[insert]\nenabled = maybe\n", "expected true or false");
    assert_mistake(MINIMAL "[insert]\nmax_bad_ratio = 2\n", "expected a ratio from 0 to 1");
    assert_mistake(MINIMAL "[insert]\ngroup_id =\n", "is empty; expected a value");
    assert_mistake(MINIMAL "[log]\nlevel = loud\n", "expected debug, info, warning or error");
    assert_mistake(MINIMAL "[outbox]\ntable = outbox_events\n", "expected schema.table");
    assert_mistake(MINIMAL "[outbox]\ncolumn.id = none\n", "every outbox needs this column");
    assert_mistake(MINIMAL "[publish]\nadditional = tenant:footer\n",
        "place of column tenant: expected header, envelope or partition");
    assert_mistake(MINIMAL "[publish]\ntopic = {prefix}.{type}\n",
        "{type} at character 10 is unknown; allowed are {prefix}");
    assert_mistake(MINIMAL "[insert]\ndead_letter_table = a.b.c\n", "expected table or database.table");
    assert_mistake(MINIMAL "[http]\nlisten = 8000\n", "[http] listen: \"8000\"");
    assert_mistake(MINIMAL "ca_file = /no/such/file\n", "ca_file: \"/no/such/file\": cannot be opened: No such file");
    assert_mistake(MINIMAL "[alert]\ndeployment = my shop\n", "expected at most 128 letters, digits, points, _ and -");
    assert_mistake(MINIMAL "[alert]\nca_file = /dev/zero\n", "expected a PEM file of certificates");
    assert_mistake(MINIMAL "[alert]\nca_file = /proc/self/status\n", "expected a PEM file of certificates");
}

// A file in memory; *name is its name.
static FILE *new_file(char name[64])
{
    int descriptor = memfd_create("pem", 0);
    snprintf(name, 64, "/proc/self/fd/%d", descriptor);
    return fdopen(descriptor, "w");
}

static void write_pair(EVP_PKEY *pair, const EVP_CIPHER *cipher, char name[64])
{
    static unsigned char passphrase[] = "hush";
    FILE *file = new_file(name);
    cr_assert(PEM_write_PrivateKey(file, pair, cipher, cipher ? passphrase : NULL, 4, NULL, NULL));
    fflush(file);
}

static void write_certificate(EVP_PKEY *pair, char name[64])
{
    FILE *file = new_file(name);
    X509 *certificate = X509_new();
    cr_assert(X509_gmtime_adj(X509_getm_notBefore(certificate), 0) &&
        X509_gmtime_adj(X509_getm_notAfter(certificate), 3600) && X509_set_pubkey(certificate, pair) &&
        X509_sign(certificate, pair, EVP_sha256()) && PEM_write_X509(file, certificate));
    X509_free(certificate);
    fflush(file);
}

Test(config_mistakes, a_client_certificate_has_two_files)
{
    static char text[2048];
    char certificate[64], key[64], locked[64];
    EVP_PKEY *pair = EVP_EC_gen("P-256");
    write_certificate(pair, certificate);
    write_pair(pair, NULL, key);
    write_pair(pair, EVP_aes_128_cbc(), locked);
    EVP_PKEY_free(pair);
    snprintf(text, sizeof(text), MINIMAL "cert_file = %s\n", certificate);
    assert_mistake(text, "[clickhouse] key_file: is missing");
    snprintf(text, sizeof(text), MINIMAL "[alert]\nkey_file = %s\n", key);
    assert_mistake(text, "[alert] cert_file: is missing");
    snprintf(text, sizeof(text), MINIMAL "cert_file = %s\nkey_file = %s\n", certificate, certificate);
    assert_mistake(text, "expected a PEM file of a private key without a passphrase");
    snprintf(text, sizeof(text), MINIMAL "cert_file = %s\nkey_file = %s\n", certificate, locked);
    assert_mistake(text, "expected a PEM file of a private key without a passphrase");
    snprintf(text, sizeof(text), MINIMAL "cert_file = %s\nkey_file = %s\n", certificate, key);
    config_free(load_good(text));
}

Test(config_mistakes, one_that_is_inherited_is_told_once)
{
    assert_mistake(MINIMAL "[publish]\nkey = {x}\n[outbox]\n[outbox a]\ntable = s.a\n[outbox b]\ntable = s.b\n",
        "{x} at character 1 is unknown");
}

Test(config_mistakes, kafka_properties_that_are_refused_or_unknown)
{
    static const char *const refused[][2] = {{"group.id", "[insert] group_id"}, {"enable.auto.commit", "leave it out"},
        {"enable.auto.offset.store", "leave it out"}, {"auto.commit.interval.ms", "leave it out"},
        {"isolation.level", "read_committed"}, {"auto.offset.reset", "ClickHouse table"},
        {"group.protocol", "leave it out"}, {"transactional.id", "[publish] transactional_id"},
        {"enable.idempotence", "always on"}, {"acks", "always all"}, {"request.required.acks", "always all"},
        {"partition.assignment.strategy", "cooperative-sticky"}, {"enable.partition.eof", "leave it out"},
        {"check.crcs", "passes over a record set"}, {"queued.max.messages.kbytes", "memory_limit"},
        {"socket.max.fails", "leave it out"}};
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        char text[512];
        snprintf(text, sizeof(text), "[kafka]\n%s = 1\n[clickhouse]\nurl = http://c\n[postgres]\ndsn = host=h\n",
            refused[i][0]);
        cr_assert_null(load_bytes(text, strlen(text)));
        cr_assert_not_null(strstr(mistakes, refused[i][1]), "%s", mistakes);
        snprintf(text, sizeof(text), ":2: [kafka] %s: cannot be set: ", refused[i][0]);
        cr_assert_not_null(strstr(mistakes, text), "%s", mistakes);
    }
    assert_mistake(
        "[postgres]\ndsn = host=h\n[clickhouse]\nurl = http://c\n[kafka]\nbootstrap.servers = k\nlinger = 3\n",
        "[kafka] linger: unknown property of librdkafka; did you mean linger.ms?");
    assert_mistake(
        "[postgres]\ndsn = host=h\n[clickhouse]\nurl = http://c\n[kafka]\nbootstrap.servers = k\nlinger.ms = soon\n",
        ":7: [kafka] linger.ms: ");
    assert_mistake("[postgres]\ndsn = host=h\n[clickhouse]\nurl = http://c\n[kafka]\nbootstrap.servers = "
                   "k\nfetch.max.bytes = 1000000000\n",
        "is more than [insert] memory_limit (256MiB) may hold");
    assert_mistake("[postgres]\ndsn = host=h\n[clickhouse]\nurl = http://c\n[kafka]\nbootstrap.servers = "
                   "k\nmax.partition.fetch.bytes = 1000000000\n",
        "[kafka] max.partition.fetch.bytes: 1000000000 is more than [insert] memory_limit (256MiB) may hold");
    assert_mistake("[postgres]\ndsn = host=h\n[clickhouse]\nurl = http://c\n[kafka]\nbootstrap.servers = "
                   "k\nfetch.max.bytes = 2000000\nmessage.max.bytes = 3000000\n",
        "[kafka] fetch.max.bytes: 2000000 is less than message.max.bytes (3000000)");
    assert_mistake("[postgres]\ndsn = host=h\n[clickhouse]\nurl = http://c\n[kafka]\nbootstrap.servers = "
                   "k\nreceive.message.max.bytes = 3000000\nmessage.max.bytes = 3000000\n",
        "[kafka] receive.message.max.bytes: 3000000 is less than what a fetch may bring");
#define SASL(lines)                                                                                                    \
    "[postgres]\ndsn = host=h\n[clickhouse]\nurl = http://c\n[kafka]\nbootstrap.servers = k\n"                         \
    "security.protocol = SASL_SSL\n" lines
    assert_mistake(SASL(""), "[kafka] sasl.mechanism: is missing, and security.protocol is SASL_SSL");
    assert_mistake(SASL("sasl.mechanism = SCRAM-SHA-512\nsasl.username = u\n"),
        "[kafka] sasl.password: is missing; sasl.mechanism SCRAM-SHA-512 needs it");
    assert_mistake(SASL("sasl.mechanisms = PLAIN\nsasl.password = p\n"),
        "[kafka] sasl.username: is missing; sasl.mechanism PLAIN needs it");
    config_free(load_good(SASL("sasl.mechanism = PLAIN\nsasl.username = u\nsasl.password = p\n")));
    assert_mistake(SASL("sasl.mechanism = OAUTHBEARER\n"), "[kafka] sasl.oauthbearer.method: expected oidc");
    assert_mistake(SASL("sasl.mechanism = OAUTHBEARER\nsasl.oauthbearer.method = default\n"),
        "[kafka] sasl.oauthbearer.method: expected oidc");
    config_free(load_good(SASL("sasl.mechanism = OAUTHBEARER\nsasl.oauthbearer.method = OIDC\n")));
    config_free(load_good(SASL("sasl.mechanism = OAUTHBEARER\nenable.sasl.oauthbearer.unsecure.jwt = 1\n")));
#undef SASL
    struct config *config = load_good(
        "[kafka]\nclient.id = me\nbootstrap.servers = k\n[clickhouse]\nurl = http://c\n[postgres]\ndsn = host=h\n");
    cr_assert_str_eq(config->kafka[0].value, "me");
    config_free(config);
    config = load_good(
        "[kafka]\nbootstrap.servers = k\ndelivery.timeout.ms = 1\nmessage.max.bytes = 9999\n[clickhouse]\n"
        "url = http://c\n[postgres]\ndsn = host=h\n");
    cr_assert_str_eq(config->kafka[1].name, "delivery.timeout.ms");
    cr_assert_str_eq(config->kafka[1].meant, "message.timeout.ms");
    cr_assert_str_eq(config->kafka[2].meant, "message.max.bytes");
    config_free(config);
}

Test(config_mistakes, routes_that_lack_or_misspell_something)
{
#define ROUTE MINIMAL "[route r]\ntopics = t\ntable = x\n"
    assert_mistake(MINIMAL "[route r]\ntable = x\n", "[route r] topics: is missing; expected names of topics");
    assert_mistake(MINIMAL "[route r]\ntopics = t\n", "[route r] table: is missing");
    assert_mistake(MINIMAL "[route r]\ntopics = a/b\ntable = x\n", "\"a/b\": expected a topic's name");
    assert_mistake(MINIMAL "[route r]\ntopics = ^a(\ntable = x\n", "is no extended regular expression");
    assert_mistake(MINIMAL "[route r]\ntopics = a, ^b\ntable = x\n", "(an expression that starts with ^ stands alone)");
    assert_mistake(ROUTE "a = payload.x\n",
        ":10: [route r] a: source payload.x, character 1: expected $.path, header.NAME");
    assert_mistake(ROUTE "a = $.x\ncolumns = a = $.y\n", ":11: [route r] columns: column a has two sources");
    assert_mistake(ROUTE "columns = a = $.op: x=1, y=2\n", "in this list blanks separate the entries of a map");
    assert_mistake(ROUTE "topic = b\n", ":10: [route r] topic: neither a key nor a column");
    assert_mistake(ROUTE "enable = no\n", "did you mean enabled?");
    assert_mistake(ROUTE "columns = a\n", "expected column = source, column = source");
    assert_mistake(ROUTE "columns = a = $.x:\n", "a: source $.x:, character 5: the map is empty");
    assert_mistake(MINIMAL "[route r]\ntopics = t\ntable = outbox_relay_dead_letters\n",
        "is also [insert] dead_letter_table");
    assert_mistake(MINIMAL "[route default]\nenabled = no\n", "every route is switched off");
    assert_mistake(MINIMAL "[publish]\ntopic = {event_type}\n",
        "would also take the receipts of topic outbox-relay.receipts; set topics of [route default]");
    assert_mistake(MINIMAL "[insert]\ndead_letter_topic = dead\n[route r]\ntopics = ^d\ntable = x\n",
        "would also take the dead letters of topic dead");
    assert_mistake(MINIMAL "[publish]\ntopic = outbox-relay.receipts\n[insert]\nenabled = false\n",
        "topic: 'outbox-relay.receipts' is the relay's own");
    assert_mistake(MINIMAL "[insert]\ndead_letter_topic = dead\n[publish]\ntopic = dead\n[route default]\ntopics = t\n",
        "'dead' is the relay's own");
    struct config *config = load_good(MINIMAL "[route r]\nenabled = false\n");
    config_free(config);
}

Test(config_mistakes, settings_that_contradict_each_other)
{
    assert_mistake(MINIMAL "[health]\nwarning_rows = 2000\n",
        "[health] warning_rows: 2000 is above critical_rows (1000)");
    assert_mistake(MINIMAL "[health]\nwarning_age = 1h\n", "[health] warning_age: 1h is above critical_age (15m)");
    assert_mistake(MINIMAL "[health]\nwarning_lag = 9\ncritical_lag = 8\n",
        "[health] warning_lag: 9 is above critical_lag (8)");
    assert_mistake(MINIMAL "[insert]\nbatch_bytes = 200MiB\n",
        "[insert] batch_bytes: 200MiB is more than half of memory_limit (256MiB)");
    assert_mistake(MINIMAL "[insert]\nenabled = no\n[publish]\nenabled = no\n", "both stages are switched off");
    assert_mistake(MINIMAL "[outbox]\n[outbox b]\n",
        "[outbox b] table: public.outbox_events is also the table of outbox default");
    assert_mistake(MINIMAL "[outbox]\ndead_letter_table = public.outbox_events\n", "is the outbox's own table");
    assert_mistake(MINIMAL "[outbox]\ncolumn.payload = id\n", "column id has two roles");
    assert_mistake(MINIMAL "[outbox]\ncolumn.created_at = seq\n", "column seq has two roles");
    assert_mistake(MINIMAL "[outbox]\ncolumn.type = metadata\n",
        "column metadata has two roles; expected a column of its own for each but id, key, type and aggregate_type");
    assert_mistake(MINIMAL "[outbox]\nadditional = a:envelope\n",
        "[outbox]: additional: a:envelope needs value = envelope");
    assert_mistake(MINIMAL "[publish]\nadditional = a:partition, b:partition\n",
        "[outbox]: additional: two columns that name the partition");
    assert_mistake(MINIMAL "[publish]\nadditional = a:header:event_id\n", "event_id");
    assert_mistake(MINIMAL "[publish]\nmetadata_headers = a, a\n", "metadata_headers");
    assert_mistake(MINIMAL "[publish]\nadditional = a:header:event_id\n", "event_id");
    assert_mistake(MINIMAL "[publish]\nmetadata_headers = a, a\n", "header");
    assert_mistake("[postgres]\ndsn = postgresql://u:p@h/d\npassword = q\n[kafka]\nbootstrap.servers = "
                   "k\n[clickhouse]\nurl = http://c\n",
        ":3: [postgres] password: the dsn of line 2 holds a password too; expected one of them");
}

Test(config_mistakes, roles_that_are_only_read_share_a_column)
{
    struct config *config = load_good(MINIMAL "[outbox]\ncolumn.key = id\ncolumn.type = aggregate_type\n");
    config_free(config);
}

Test(config_mistakes, files_of_secrets_that_cannot_be_used)
{
    assert_mistake(MINIMAL "password_file = /nonexistent/p\n",
        ":7: [clickhouse] password_file: the file /nonexistent/p cannot be opened: No such file");
    assert_mistake(MINIMAL "password_file = /tmp\n", "the file /tmp is a directory");
    assert_mistake(MINIMAL "password_file =\n", "expected the path of a file");
    assert_mistake(MINIMAL "password = x\npassword_file = /y\n",
        ":8: [clickhouse] password_file: password and password_file are both set");
    char *empty = make_file("\n", 1), *zero = make_file("a\0b", 3);
    char text[512];
    snprintf(text, sizeof(text), MINIMAL "password_file = %s\n", empty);
    assert_mistake(text, "is empty");
    snprintf(text, sizeof(text), MINIMAL "password_file = %s\n", zero);
    assert_mistake(text, "holds a NUL byte");
    unlink(empty);
    unlink(zero);
}

Test(config_mistakes, no_secret_is_ever_told)
{
    static const char text[] = "[postgres]\ndsn = host=h password=two hunter2\npassword = hunter2\npassword = hunter2\n"
                               "[kafka]\nsasl.password = hunter2\nsasl.password = hunter2\nssl.key.password = "
                               "hunter2\nsecurity.protocol = ssl\n"
                               "sasl.oauthbearer.client.secret = hunter2\nssl.key.pem = hunter2\n"
                               "[clickhouse]\nurl = http://u:hunter2@c\npassword = hunter2\npassword_file = hunter2\n"
                               "[alert]\nslack_url = hunter2\nwebhook_url = hunter2\nalertmanager_url = hunter2 ;\n"
                               "[route r]\npassword = hunter2\ndsn = hunter2\nsasl.password = hunter2\n"
                               "slack_url = hunter2\n";
    cr_assert_null(load_bytes(text, sizeof(text) - 1));
    cr_assert_null(strstr(mistakes, "hunter2"), "%s", mistakes);
    cr_assert_null(strstr(error.text, "hunter2"));
    cr_assert_geq(mistake_count(), 11);
}

Test(config_mistakes, what_is_told_cannot_harm_a_terminal)
{
    assert_mistake(MINIMAL "[log]\nlevel = a\tb\n", "\"a?b\"");
}

Test(config_mistakes, the_list_of_mistakes_is_optional)
{
    char *path = make_file("x\n", 2);
    cr_assert_null(config_load(path, NULL, NULL));
    cr_assert_null(config_load(path, NULL, &error));
    cr_assert_eq(error.code, RELAY_ERROR_CONFIG);
    unlink(path);
}
