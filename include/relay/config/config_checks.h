// SPDX-License-Identifier: Apache-2.0
//
// What a text must look like to be a table, a topic, a URL ... Each returns true, or error CONFIG with what was
// expected and without quoting what may be secret. None is called with an empty text. Pure functions; any thread.
#ifndef RELAY_CONFIG_CONFIG_CHECKS_H
#define RELAY_CONFIG_CONFIG_CHECKS_H

#include "relay/base/error.h"

#include <libpq-fe.h>
#include <stdbool.h>

bool config_check_dsn(const char *text, struct relay_error *error); // libpq can read it, its lists are of one length
bool config_check_table(const char *text,
    struct relay_error *error); // PostgreSQL: schema.table, names quoted as in SQL
bool config_check_column(const char *text, struct relay_error *error); // PostgreSQL: a column's name as it is stored
// table or database.table, each name in backticks or not, none with a point or backtick in it
bool config_check_clickhouse_table(const char *text, struct relay_error *error);
// Takes the backticks out of such a text, so that one table has one name, as the server itself would give it. Whoever
// makes SQL of it quotes it (clickhouse_text_table). What is no table stays as it is.
void config_plain_clickhouse_table(char *text);
bool config_check_name(const char *text, struct relay_error *error);       // a database or user: no blanks, no quotes
bool config_check_topic(const char *text, struct relay_error *error);      // a Kafka topic's name
bool config_check_topic_part(const char *text, struct relay_error *error); // characters of topics
bool config_check_topic_template(const char *text, struct relay_error *error);
bool config_check_template(const char *text, struct relay_error *error);
bool config_check_group(const char *text, struct relay_error *error);
bool config_check_identifier(const char *text, struct relay_error *error); // short, of letters, digits, . _ -
bool config_check_url(const char *text, struct relay_error *error); // ClickHouse: scheme://host[:port], nothing else
bool config_check_web_url(const char *text, struct relay_error *error); // http:// or https:// and a host
bool config_check_certificates(const char *text,
    struct relay_error *error); // a file with a certificate in PEM, which is looked at
bool config_check_key(const char *text, struct relay_error *error);    // the same of a private key
bool config_check_listen(const char *text, struct relay_error *error); // host:port, [v6]:port, :port, none

// How many pieces a list with commas has.
int config_list_length(const char *list);
// Whether host, hostaddr and port of a dsn that is taken apart name the same number of hosts.
bool config_dsn_lists_agree(const PQconninfoOption *options, struct relay_error *error);
// Whether the dsn itself holds a password.
bool config_dsn_has_password(const char *dsn);
// PQconninfoFree() that wipes the values, of which one is a password. Accepts NULL.
void config_dsn_free(PQconninfoOption *options);

#endif
