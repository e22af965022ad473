// SPDX-License-Identifier: Apache-2.0
//
// What the operator asked for, parsed and checked: one immutable struct that main loads and everything else borrows as
// `const struct config *`. config_load() reads the INI file, lets the environment override it
// (OUTBOX_RELAY_<SECTION>_<KEY>), reads the files of `x_file` twins, applies the defaults of the one table in
// config_table.h and reports ALL mistakes at once. Strings are owned by the config and live until config_free(). Never
// NULL unless said so: an unset optional text is "". Thread-safe after loading, because nothing changes.
#ifndef RELAY_CONFIG_CONFIG_H
#define RELAY_CONFIG_CONFIG_H

#include "relay/base/clock.h"
#include "relay/base/error.h"
#include "relay/base/log.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct config_memory;

struct config_list {
    char **items;
    size_t count;
};

// One `name = value` of a section that is passed through ([kafka]) or kept in order ([route] columns).
struct config_pair {
    char *name;
    char *value;
    char *meant; // in [kafka]: the property that the name, if it is an alias, stands for; NULL: itself
};

struct config_postgres {
    char *dsn;      // libpq connection string or URI; never holds the password when `password` is set
    char *password; // secret
    struct duration connect_timeout, statement_timeout, idle_timeout, acquire_timeout;
};

enum config_guarantee { CONFIG_EXACTLY_ONCE, CONFIG_AT_LEAST_ONCE };
enum config_disposition { CONFIG_DISPOSITION_DELETE, CONFIG_DISPOSITION_MARK };
enum config_layout { CONFIG_LAYOUT_NATIVE, CONFIG_LAYOUT_DEBEZIUM };
enum config_value { CONFIG_VALUE_PAYLOAD, CONFIG_VALUE_ENVELOPE };
enum config_on_poison { CONFIG_POISON_DEAD_LETTER, CONFIG_POISON_HOLD_AGGREGATE, CONFIG_POISON_STOP };
enum config_placement { CONFIG_PLACE_HEADER, CONFIG_PLACE_ENVELOPE, CONFIG_PLACE_PARTITION };

// The roles that a column of an outbox table can play; the config names the column of each ("" = the table has none).
enum config_column_role {
    CONFIG_COLUMN_ID,
    CONFIG_COLUMN_SEQ,
    CONFIG_COLUMN_KEY, // aggregate_id
    CONFIG_COLUMN_TYPE,
    CONFIG_COLUMN_AGGREGATE_TYPE,
    CONFIG_COLUMN_PAYLOAD,
    CONFIG_COLUMN_METADATA,
    CONFIG_COLUMN_CREATED_AT,
    CONFIG_COLUMN_ROLES
};

struct config_additional {
    char *column;
    enum config_placement placement;
    char *alias; // the header's or envelope member's name; equals column when none was given
};

struct config_publish {
    bool enabled;
    enum config_guarantee guarantee;
    char *topic; // template: {prefix} {event_type} {event_type:N} {aggregate_type} {aggregate_id}
    char *prefix;
    char *key; // template
    enum config_value value;
    struct config_list metadata_headers;
    struct config_additional *additional;
    size_t additional_count;
    bool tombstone_on_empty;
    enum config_on_poison on_poison;
    char *transactional_id;
    char *receipt_topic;
};

// One outbox table, its publish settings already merged ([publish], then [outbox], then [outbox NAME]).
struct config_outbox {
    char *name;  // NAME of [outbox NAME]; "default" for [outbox]
    char *table; // as written: schema.table
    int64_t batch_rows;
    int64_t batch_bytes;
    enum config_disposition disposition;
    struct duration fallback_poll;
    char *dead_letter_table;
    enum config_layout layout;
    char *columns[CONFIG_COLUMN_ROLES]; // resolved for the layout
    struct config_publish publish;
};

enum config_on_lost_messages { CONFIG_LOST_STOP, CONFIG_LOST_CONTINUE };

struct config_insert {
    bool enabled;
    char *group_id;
    enum config_guarantee guarantee;
    int64_t batch_rows;
    int64_t batch_bytes;
    struct duration linger;
    int64_t memory_limit;
    char *dead_letter_table;
    char *dead_letter_topic; // "" = none
    double max_bad_ratio;    // 0 = no limit
    enum config_on_lost_messages on_lost_messages;
};

enum config_compression { CONFIG_COMPRESSION_AUTO, CONFIG_COMPRESSION_LZ4, CONFIG_COMPRESSION_NONE };
struct config_clickhouse {
    struct config_list urls; // scheme://host:port, no user, no password, no path, no query
    char *database;
    char *user;
    char *password;             // secret
    char *ca_file;              // PEM; "" = the system's authorities
    char *cert_file, *key_file; // PEM; "" = no client certificate
    struct duration connect_timeout, request_timeout;
    enum config_compression compression; // what AUTO comes to: clickhouse_compresses()
};

enum config_tombstones { CONFIG_TOMBSTONES_DEAD_LETTER, CONFIG_TOMBSTONES_SKIP, CONFIG_TOMBSTONES_ROW };
struct config_route {
    char *name; // NAME of [route NAME]; "default" for the built-in default route
    bool enabled;
    struct config_list
        topics;  // exact names, or one item that starts with ^ (a POSIX extended regex as librdkafka takes it)
    char *table; // database.table, or table in [clickhouse] database
    struct config_pair *columns; // column = source, in the order of the file; none: the columns of the default table
    size_t column_count;
    enum config_tombstones tombstones; // what becomes of messages without value
};

enum config_dependency {
    CONFIG_DEPENDENCY_POSTGRES,
    CONFIG_DEPENDENCY_KAFKA,
    CONFIG_DEPENDENCY_CLICKHOUSE,
    CONFIG_DEPENDENCY_ALERT,
    CONFIG_DEPENDENCIES
};
struct config_breaker {
    int64_t failures;
    struct duration open;
    int64_t successes;
};

struct config_health {
    struct duration interval;
    int64_t warning_rows, critical_rows;
    struct duration warning_age, critical_age; // 0 = not judged
    int64_t warning_lag, critical_lag;         // consumer lag in messages; 0 = not judged
};

struct config_alert {
    char *webhook_url, *slack_url, *alertmanager_url; // "" = none; may hold secrets, never logged whole
    char *ca_file;                                    // PEM; "" = the system's authorities
    char *cert_file, *key_file;                       // PEM; "" = no client certificate
    char *deployment;                                 // "" = has no name
    struct duration repeat, hold;
};

struct config_http {
    char *listen; // host:port, [v6]:port, or "" = none
};

struct config_log {
    enum log_level level;
    enum log_format format;
};

struct config {
    char *path; // of the file that was read, "" if only the environment
    struct config_list
        exposed; // secrets that stand in it, as "[section] key", if every user of the machine may read it
    struct config_postgres postgres;
    struct config_outbox *outboxes;
    size_t outbox_count;       // at least 1 where publishing is enabled
    struct config_pair *kafka; // librdkafka properties, in order
    size_t kafka_count;
    // The [publish] section itself, before the outboxes' overrides; but `enabled` says whether any outbox is published
    // (outboxes that are not have publish.enabled = false).
    struct config_publish publish;
    struct config_insert insert;
    struct config_clickhouse clickhouse;
    struct config_route *routes; // the default route first
    size_t route_count;
    struct config_breaker breakers[CONFIG_DEPENDENCIES];
    struct config_health health;
    struct config_alert alert;
    struct config_http http;
    struct config_log log;
    struct duration drain_timeout; // [run] drain_timeout: from SIGTERM to exit at the latest
    struct duration lease;         // [run] lease: a frozen owner loses its outbox after this
    struct config_memory *memory;  // where all of the above lives
};

// path NULL: $OUTBOX_RELAY_CONFIG, else /etc/outbox-relay/outbox-relay.ini. A missing default file is no error when the
// environment alone says enough; a file that was named must be there.
// On failure NULL, error (CONFIG) says how many mistakes, and *mistakes (malloc'd, the caller frees; may be NULL) holds
// one line a mistake: "file:line: [section] key: what is wrong; what was expected".
struct config *config_load(const char *path, char **mistakes, struct relay_error *error);
void config_free(struct config *config); // accepts NULL; wipes the secrets

#endif
