// SPDX-License-Identifier: Apache-2.0
#include "relay/postgres/pg_dsn.h"

#include "relay/config/config_checks.h"

#include <string.h>

const char *pg_option_value(const PQconninfoOption *options, const char *keyword)
{
    for (const PQconninfoOption *option = options; option->keyword != NULL; option++) {
        if (strcmp(option->keyword, keyword) == 0) {
            return option->val == NULL || option->val[0] == '\0' ? NULL : option->val;
        }
    }
    return NULL;
}

void pg_parameters_set(struct pg_parameters *parameters, const char *keyword, const char *value)
{
    for (int i = 0; i < parameters->count; i++) {
        if (strcmp(parameters->keywords[i], keyword) == 0) {
            parameters->values[i] = value;
            return;
        }
    }
    if (value != NULL && parameters->count < PG_PARAMETERS_MAX) {
        parameters->keywords[parameters->count] = keyword;
        parameters->values[parameters->count++] = value;
    }
}

void pg_parameters_add(struct pg_parameters *parameters, const PQconninfoOption *given)
{
    for (const PQconninfoOption *option = given; option->keyword != NULL; option++) {
        if (option->val != NULL) {
            pg_parameters_set(parameters, option->keyword, option->val);
        }
    }
}

// Only libpq knows how to read a service file, and does so where it begins to connect: here it ends there, since it
// refuses this sslmode before it looks up any host. NULL: no memory.
static PQconninfoOption *with_defaults(const PQconninfoOption *given)
{
    struct pg_parameters parameters = {.count = 0};
    pg_parameters_add(&parameters, given);
    pg_parameters_set(&parameters, "sslmode", "none, we only ask");
    PGconn *libpq = PQconnectStartParams(parameters.keywords, parameters.values, 0);
    PQconninfoOption *whole = libpq == NULL ? NULL : PQconninfo(libpq);
    PQfinish(libpq);
    return whole;
}

bool pg_dsn_take_apart(const char *text, struct pg_dsn *dsn, struct relay_error *error)
{
    dsn->given = PQconninfoParse(text, NULL);
    if (dsn->given == NULL) {
        return error_set(error, RELAY_ERROR_POSTGRES_OPERATOR,
            "[postgres] dsn is neither a connection URI (postgresql://user@host/database) nor keywords (host=... "
            "dbname=...)");
    }
    bool named = pg_option_value(dsn->given, "host") != NULL || pg_option_value(dsn->given, "hostaddr") != NULL;
    if (!named || pg_option_value(dsn->given, "service") != NULL) {
        dsn->whole = with_defaults(dsn->given);
        if (dsn->whole == NULL) {
            return error_no_memory(error, "what [postgres] dsn leaves to libpq");
        }
    }
    dsn->hosts = named ? dsn->given : dsn->whole;
    return config_dsn_lists_agree(dsn->hosts, error) || error_prefix(error, "[postgres] dsn");
}

const char *pg_dsn_value(const struct pg_dsn *dsn, const char *keyword)
{
    const char *value = pg_option_value(dsn->given, keyword);
    return value != NULL || dsn->whole == NULL ? value : pg_option_value(dsn->whole, keyword);
}

int pg_dsn_hosts(const struct pg_dsn *dsn)
{
    const char *addresses = pg_option_value(dsn->hosts, "hostaddr"), *hosts = pg_option_value(dsn->hosts, "host");
    const char *list = addresses != NULL ? addresses : hosts;
    return list == NULL ? 1 : config_list_length(list);
}

void pg_dsn_finish(struct pg_dsn *dsn)
{
    config_dsn_free(dsn->given);
    config_dsn_free(dsn->whole);
    *dsn = (struct pg_dsn){.given = NULL};
}
