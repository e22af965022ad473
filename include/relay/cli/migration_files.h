// SPDX-License-Identifier: Apache-2.0
//
// The schema files of one server, read from disk: NNN_name.up.sql with its NNN_name.down.sql, in the order of their
// numbers. Finds the folder, refuses two files of one number and a down file without its up file. A list belongs to its
// maker. Tool of the migrate and check commands; one thread.
#ifndef RELAY_CLI_MIGRATION_FILES_H
#define RELAY_CLI_MIGRATION_FILES_H

#include "relay/base/error.h"
#include "relay/base/sha256.h"

#include <stdbool.h>
#include <stddef.h>

struct migration_file {
    int number;                                  // NNN
    char *name;                                  // "001_relay_schema"
    char *up;                                    // the file's text
    char *down;                                  // NULL: there is none
    bool up_in_transaction, down_in_transaction; // false: the first line is `-- relay:no-transaction`
    char checksum[SHA256_TEXT];                  // of up
};

struct migration_files {
    char *folder; // ".../schemas/postgres"
    struct migration_file *items;
    size_t count;
};

// server: "postgres" or "clickhouse". given: the folder that holds both (--schemas), or NULL: $OUTBOX_RELAY_SCHEMAS,
// else ../share/outbox-relay/schemas and ../schemas beside the binary, else the folder that the build was configured
// for.
// Errors: USAGE (no such folder, and which were tried), CONFIG (its content), SYSTEM, NO_MEMORY. *files needs no
// finishing on failure.
bool migration_files_read(struct migration_files *files, const char *given, const char *server,
    struct relay_error *error);
void migration_files_finish(struct migration_files *files);                                               // accepts {0}
const struct migration_file *migration_files_find(const struct migration_files *files, const char *name); // NULL: none

#endif
