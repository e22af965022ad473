// SPDX-License-Identifier: Apache-2.0
#include "config_fixture.h"

#include "relay/config/config_compare.h"
#include "relay/config/config_docs.h"

// What put() writes; the caller frees.
static char *written(void (*put)(FILE *out))
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    put(out);
    fclose(out);
    return text;
}

Test(config_docs, every_key_has_a_sentence_and_a_sample_that_is_its_default)
{
    char *sample = written(config_docs_sample);
    for (size_t i = 0; i < config_key_count; i++) {
        const struct config_key *key = &config_keys[i];
        cr_assert(key->sentence != NULL && key->sentence[0] != '\0', "%s", key->name);
        cr_assert((key->flags & CONFIG_INHERITS) == 0 ? key->fallback != NULL : key->fallback == NULL, "%s", key->name);
        char line[160];
        snprintf(line, sizeof(line), "\n;%s = %s\n", key->name,
            key->fallback != NULL && key->fallback[0] != '\0' ? key->fallback : key->example);
        cr_assert_not_null(strstr(sample, line), "%s", line);
    }
    free(sample);
}

static void note(void *context, const char *section, const char *key, bool live)
{
    (void)live;
    snprintf(context, 512, "[%s] %s", section, key);
}

// The sample with each `;key = value` that gives a default, or stands for the layout's or the breakers' one, taken in.
Test(config_docs, the_sample_taken_in_changes_nothing)
{
    static const char *const mine[] = {"dsn", "password", "additional", "dead_letter_topic", "webhook_url", "slack_url",
        "alertmanager_url", "ca_file", "cert_file", "key_file", "deployment", "bootstrap.servers", "topics", "columns",
        "url"};
    char *sample = written(config_docs_sample);
    static char text[65536];
    size_t used = 0;
    char *rest = sample;
    for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n")) {
        bool skip = strncmp(line, "; ", 2) == 0;
        for (size_t i = 0; i < sizeof(mine) / sizeof(mine[0]); i++) {
            skip |= line[0] != '\0' && strncmp(line + 1, mine[i], strlen(mine[i])) == 0 &&
                line[1 + strlen(mine[i])] == ' ';
        }
        if (!skip && strcmp(line, ";[route NAME]") == 0) {
            used += (size_t)snprintf(text + used, sizeof(text) - used, "[route default]\n");
        } else if (!skip && strcmp(line, ";table = analytics.orders") != 0) {
            used += (size_t)snprintf(text + used, sizeof(text) - used, "%s\n", line[0] == ';' ? line + 1 : line);
            const char *more = strcmp(line, "[postgres]") == 0 ? "dsn = host=db\n"
                : strcmp(line, "[kafka]") == 0                 ? "bootstrap.servers = k:9092\n"
                : strcmp(line, "[clickhouse]") == 0            ? "url = http://c:8123\n"
                                                               : "";
            used += (size_t)snprintf(text + used, sizeof(text) - used, "%s", more);
        }
    }
    free(sample);
    struct config *config = load_good(text), *plain = load_good(MINIMAL);
    char difference[512] = "";
    config_compare(plain, config, note, difference);
    cr_assert_str_eq(difference, "");
    config_free(config);
    config_free(plain);
}

Test(config_docs, help_names_every_key)
{
    char *help = written(config_docs_help);
    cr_assert_not_null(strstr(help, "  [insert] batch_rows (50000)\n"));
    cr_assert_not_null(strstr(help, "  [route NAME] topics\n"));
    size_t lines = 0;
    for (const char *at = help; *at != '\0'; at++) {
        lines += *at == '\n';
    }
    cr_assert_eq(lines, config_key_count);
    free(help);
}
