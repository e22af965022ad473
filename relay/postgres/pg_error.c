// SPDX-License-Identifier: Apache-2.0
#include "relay/postgres/pg_error.h"

#include <stdio.h>
#include <string.h>

enum relay_error_code pg_error_code(const char *sqlstate)
{
    static const struct {
        const char *prefix;
        enum relay_error_code code;
    } classes[] = {
        {"08", RELAY_ERROR_POSTGRES_UNREACHABLE},    // connection exceptions
        {"57P", RELAY_ERROR_POSTGRES_UNREACHABLE},   // shutdown, crash, cannot connect now, idle session timeout
        {"25P03", RELAY_ERROR_POSTGRES_UNREACHABLE}, // idle in transaction for too long: the session is gone
        {"25P04", RELAY_ERROR_POSTGRES_UNREACHABLE}, // transaction_timeout: so is it
        {"57014", RELAY_ERROR_POSTGRES_QUERY},       // statement_timeout, cancel
        {"55P03", RELAY_ERROR_POSTGRES_QUERY},       // lock_timeout
        {"40", RELAY_ERROR_POSTGRES_QUERY},          // deadlock, serialisation
        {"53", RELAY_ERROR_POSTGRES_QUERY},          // disk, memory, connections: may pass
        {"58", RELAY_ERROR_POSTGRES_QUERY},          // I/O
        {"XX", RELAY_ERROR_POSTGRES_QUERY},
    };
    for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
        if (strncmp(sqlstate, classes[i].prefix, strlen(classes[i].prefix)) == 0) {
            return classes[i].code;
        }
    }
    return RELAY_ERROR_POSTGRES_OPERATOR;
}

void pg_one_line(char *text)
{
    size_t length = strlen(text);
    while (length > 0 && (text[length - 1] == '\n' || text[length - 1] == ' ')) {
        text[--length] = '\0';
    }
    for (char *at = text; *at != '\0'; at++) {
        if (*at == '\n' || *at == '\t' || *at == '\r') {
            *at = ' ';
        }
    }
}

bool pg_error_set(struct relay_error *error, const PGconn *libpq, const PGresult *result, const char *what)
{
    const char *sqlstate = result == NULL ? NULL : PQresultErrorField(result, PG_DIAG_SQLSTATE);
    char text[700]; // a hint may be two statements
    if (sqlstate == NULL) {
        snprintf(text, sizeof(text), "%s", PQerrorMessage(libpq));
        pg_one_line(text);
        return error_set(error, RELAY_ERROR_POSTGRES_UNREACHABLE, "%s: %s", what,
            text[0] == '\0' ? "the connection is lost" : text);
    }
    const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);
    const char *hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);
    // The detail of a constraint or conversion error (class 23, 22) quotes data of the row, of a conversion the message
    // does, too: `invalid input syntax for type uuid: "..."`.
    bool converts = strncmp(sqlstate, "22", 2) == 0;
    if (converts || strncmp(sqlstate, "23", 2) == 0) {
        detail = NULL;
    }
    primary = primary == NULL ? "" : primary;
    size_t shown = converts ? strcspn(primary, "\"") : strlen(primary);
    snprintf(text, sizeof(text), "%.*s%s%s%s%s%s", (int)shown, primary, primary[shown] == '\0' ? "" : "...",
        detail == NULL ? "" : "; ", detail == NULL ? "" : detail, hint == NULL ? "" : "; ", hint == NULL ? "" : hint);
    pg_one_line(text);
    return error_set(error, pg_error_code(sqlstate), "%s: %s (SQLSTATE %s)", what, text, sqlstate);
}
