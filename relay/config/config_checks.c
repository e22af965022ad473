// SPDX-License-Identifier: Apache-2.0
#include "relay/config/config_checks.h"

#include "relay/config/listen_address.h"
#include "relay/publish/event_template.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TOPIC_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
#define TOPIC_MAX        249 // Kafka's
#define POSTGRES_MAX     63  // bytes of a name; the server would cut longer ones without a word

static bool expected(struct relay_error *error, const char *what)
{
    return error_set(error, RELAY_ERROR_CONFIG, "expected %s", what);
}

void config_dsn_free(PQconninfoOption *options)
{
    for (PQconninfoOption *option = options; option != NULL && option->keyword != NULL; option++) {
        if (option->val != NULL) {
            explicit_bzero(option->val, strlen(option->val));
        }
    }
    PQconninfoFree(options);
}

int config_list_length(const char *list)
{
    int count = 1;
    for (const char *at = list; *at != '\0'; at++) {
        count += *at == ',';
    }
    return count;
}

// libpq's own rule, which it applies only when it connects: one list of hosts or addresses leads, the others are as
// long, and a single port serves all.
bool config_dsn_lists_agree(const PQconninfoOption *options, struct relay_error *error)
{
    int hosts = 0, addresses = 0, ports = 0;
    for (const PQconninfoOption *option = options; option->keyword != NULL; option++) {
        int length = option->val == NULL || option->val[0] == '\0' ? 0 : config_list_length(option->val);
        if (strcmp(option->keyword, "host") == 0) {
            hosts = length;
        } else if (strcmp(option->keyword, "hostaddr") == 0) {
            addresses = length;
        } else if (strcmp(option->keyword, "port") == 0) {
            ports = length;
        }
    }
    if (hosts > 0 && addresses > 0 && hosts != addresses) {
        return error_set(error, RELAY_ERROR_CONFIG, "host names %d hosts, hostaddr %d; expected as many of each", hosts,
            addresses);
    }
    int wanted = addresses > 0 ? addresses : hosts > 0 ? hosts : 1;
    return ports <= 1 || ports == wanted ||
        error_set(error, RELAY_ERROR_CONFIG, "port names %d ports for %d hosts; expected one for all, or one for each",
            ports, wanted);
}

bool config_check_dsn(const char *text, struct relay_error *error)
{
    char *problem = NULL;
    PQconninfoOption *options = PQconninfoParse(text, &problem);
    bool good = options != NULL;
    if (!good) {
        // libpq quotes what it stumbled over, which may be a piece of a password; an option's name is none.
        bool option = problem != NULL && strncmp(problem, "invalid connection option", 25) == 0 &&
            strstr(text, "password") == NULL;
        error_set(error, RELAY_ERROR_CONFIG,
            "libpq cannot read it%s%.*s; expected host=... dbname=... user=..., or postgresql://user@host/database",
            option ? ": " : "", option ? (int)strcspn(problem, "\n") : 0, option ? problem : "");
    }
    good = good && config_dsn_lists_agree(options, error);
    PQfreemem(problem);
    config_dsn_free(options);
    return good;
}

bool config_dsn_has_password(const char *dsn)
{
    PQconninfoOption *options = PQconninfoParse(dsn, NULL);
    bool found = false;
    for (PQconninfoOption *option = options; option != NULL && option->keyword != NULL; option++) {
        if (strcmp(option->keyword, "password") == 0 && option->val != NULL && option->val[0] != '\0') {
            found = true;
        }
    }
    config_dsn_free(options);
    return found;
}

// One name of a qualified SQL name: "quoted" with "" for a quote, or letters, digits, _ and $. NULL: it is none.
static const char *sql_name_end(const char *at)
{
    const char *start = at;
    if (*at == '"') {
        for (at++; *at != '\0'; at++) {
            if (*at == '"' && at[1] == '"') {
                at++;
            } else if (*at == '"') {
                return at - start - 1 >= 1 && at - start - 1 <= POSTGRES_MAX ? at + 1 : NULL;
            }
        }
        return NULL;
    }
    if (isdigit((unsigned char)*at) || *at == '$') {
        return NULL;
    }
    while (isalnum((unsigned char)*at) || *at == '_' || *at == '$' || (unsigned char)*at >= 0x80) {
        at++;
    }
    return at - start >= 1 && at - start <= POSTGRES_MAX ? at : NULL;
}

bool config_check_table(const char *text, struct relay_error *error)
{
    const char *end = sql_name_end(text);
    end = end != NULL && *end == '.' ? sql_name_end(end + 1) : NULL;
    return (end != NULL && *end == '\0') ||
        expected(error,
            "schema.table, as in SQL: names with capitals or other characters in double quotes (\"My Schema\".\"t\")");
}

bool config_check_column(const char *text, struct relay_error *error)
{
    return strlen(text) <= POSTGRES_MAX || expected(error, "a column's name, at most 63 bytes");
}

// One name: `anything` but a point, or letters, digits and _ . NULL: it is none.
static const char *clickhouse_name_end(const char *at)
{
    if (*at == '`') {
        const char *end = at + 1 + strcspn(at + 1, "`.\\");
        return *end != '`' || end == at + 1 ? NULL : end + 1;
    }
    const char *start = at;
    while (isalnum((unsigned char)*at) || *at == '_' || *at == '-' || (unsigned char)*at >= 0x80) {
        at++;
    }
    return at == start ? NULL : at;
}

bool config_check_clickhouse_table(const char *text, struct relay_error *error)
{
    const char *end = clickhouse_name_end(text);
    end = end != NULL && *end == '.' ? clickhouse_name_end(end + 1) : end;
    return (end != NULL && *end == '\0') ||
        expected(error, "table or database.table, names with odd characters in backticks, none with a point in it");
}

void config_plain_clickhouse_table(char *text)
{
    char *to = text;
    if (!config_check_clickhouse_table(text, NULL)) {
        return;
    }
    for (const char *at = text; *at != '\0'; at++) {
        if (*at != '`') {
            *to++ = *at;
        }
    }
    *to = '\0';
}

bool config_check_name(const char *text, struct relay_error *error)
{
    return strpbrk(text, "`\"'\\ \t,;()/:") == NULL || expected(error, "a name without blanks, quotes and punctuation");
}

bool config_check_topic(const char *text, struct relay_error *error)
{
    size_t length = strlen(text);
    return (length <= TOPIC_MAX && strspn(text, TOPIC_CHARACTERS) == length && strcmp(text, ".") != 0 &&
               strcmp(text, "..") != 0) ||
        expected(error, "a topic's name: at most 249 letters, digits, points, _ and -");
}

bool config_check_topic_part(const char *text, struct relay_error *error)
{
    size_t length = strlen(text);
    return (length <= TOPIC_MAX && strspn(text, TOPIC_CHARACTERS) == length) ||
        expected(error, "what a topic's name may hold: letters, digits, points, _ and -");
}

bool config_check_group(const char *text, struct relay_error *error)
{
    return strlen(text) <= 255 || expected(error, "a consumer group's name of at most 255 bytes");
}

bool config_check_identifier(const char *text, struct relay_error *error)
{
    size_t length = strlen(text);
    return (length <= 128 && strspn(text, TOPIC_CHARACTERS) == length) ||
        expected(error, "at most 128 letters, digits, points, _ and -");
}

static bool has_web_scheme(const char *text, const char **rest)
{
    static const char *const schemes[] = {"http://", "https://"};
    for (size_t i = 0; i < 2; i++) {
        if (strncmp(text, schemes[i], strlen(schemes[i])) == 0) {
            *rest = text + strlen(schemes[i]);
            return true;
        }
    }
    return false;
}

// Digits from 1 to 65535, up to end.
static bool is_port(const char *text, const char *end)
{
    size_t length = (size_t)(end - text);
    if (length == 0 || length > 5 || strspn(text, "0123456789") < length) {
        return false;
    }
    long port = strtol(text, NULL, 10);
    return port >= 1 && port <= 65535;
}

// host, host:port, [v6] or [v6]:port up to end.
static bool is_authority(const char *text, const char *end)
{
    const char *host_end;
    if (*text == '[') {
        host_end = memchr(text, ']', (size_t)(end - text));
        if (host_end == NULL || host_end - text < 3 ||
            strspn(text + 1, "0123456789abcdefABCDEF:.%") < (size_t)(host_end - text - 1)) {
            return false;
        }
        host_end++;
    } else {
        host_end = memchr(text, ':', (size_t)(end - text));
        host_end = host_end == NULL ? end : host_end;
        if (host_end == text || strspn(text, TOPIC_CHARACTERS) < (size_t)(host_end - text)) {
            return false;
        }
    }
    return host_end == end || (*host_end == ':' && is_port(host_end + 1, end));
}

bool config_check_url(const char *text, struct relay_error *error)
{
    const char *authority;
    if (!has_web_scheme(text, &authority)) {
        return expected(error, "http://host:port or https://host:port, several with commas between them");
    }
    size_t length = strcspn(authority, "/?#");
    if (memchr(authority, '@', length) != NULL) {
        return error_set(error, RELAY_ERROR_CONFIG,
            "a URL must not hold a user or a password, it ends up in logs; set user and password of "
            "[clickhouse] instead");
    }
    if (authority[length] != '\0' && strcmp(authority + length, "/") != 0) {
        return error_set(error, RELAY_ERROR_CONFIG,
            "expected http://host:port without a path or query; the database has a key of its own");
    }
    return is_authority(authority, authority + length) || expected(error, "http://host:port or https://host:port");
}

bool config_check_web_url(const char *text, struct relay_error *error)
{
    const char *authority;
    size_t length = has_web_scheme(text, &authority) ? strcspn(authority, "/?#") : 0;
    return (length > 0 && strpbrk(text, " \t") == NULL) ||
        expected(error, "a URL that starts with http:// or https://");
}

// Only a regular file is read: another one may never end, or never begin. NULL: error.
static FILE *open_pem(const char *name, const char *what, struct relay_error *error)
{
    struct stat about;
    int descriptor = open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (descriptor < 0) {
        error_set(error, RELAY_ERROR_CONFIG, "cannot be opened: %s; expected %s", strerror(errno), what);
        return NULL;
    }
    FILE *file = fstat(descriptor, &about) == 0 && S_ISREG(about.st_mode) ? fdopen(descriptor, "r") : NULL;
    if (file == NULL) {
        close(descriptor);
        expected(error, what);
    }
    return file;
}

bool config_check_certificates(const char *text, struct relay_error *error)
{
    static const char what[] = "a PEM file of certificates (-----BEGIN CERTIFICATE-----)";
    FILE *file = open_pem(text, what, error);
    if (file == NULL) {
        return false;
    }
    X509 *certificate = PEM_read_X509_AUX(file, NULL, NULL, NULL);
    fclose(file);
    ERR_clear_error();
    X509_free(certificate);
    return certificate != NULL || expected(error, what);
}

// Else OpenSSL asks the terminal.
static int no_passphrase(char *buffer, int size, int writes, void *unused)
{
    (void)buffer;
    (void)size;
    (void)writes;
    (void)unused;
    return -1;
}

bool config_check_key(const char *text, struct relay_error *error)
{
    static const char what[] = "a PEM file of a private key without a passphrase (-----BEGIN PRIVATE KEY-----)";
    FILE *file = open_pem(text, what, error);
    if (file == NULL) {
        return false;
    }
    EVP_PKEY *key = PEM_read_PrivateKey(file, NULL, no_passphrase, NULL);
    fclose(file);
    ERR_clear_error();
    EVP_PKEY_free(key);
    return key != NULL || expected(error, what);
}

bool config_check_listen(const char *text, struct relay_error *error)
{
    struct listen_address address;
    return strcmp(text, "none") == 0 || listen_address_parse(text, &address, error);
}

bool config_check_topic_template(const char *text, struct relay_error *error)
{
    if (!event_template_check(text, error)) {
        return false;
    }
    for (const char *at = text; *at != '\0'; at++) {
        if (*at == '{' && at[1] != '{') {
            at = strchr(at, '}'); // is there, since it is a template
        } else if (strchr(TOPIC_CHARACTERS, *at) == NULL) {
            return error_set(error, RELAY_ERROR_CONFIG,
                "character %zu cannot be in a topic's name; expected letters, digits, points, _, - and {placeholders}",
                (size_t)(at - text) + 1);
        }
    }
    return true;
}

bool config_check_template(const char *text, struct relay_error *error)
{
    return event_template_check(text, error);
}
