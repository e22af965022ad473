// SPDX-License-Identifier: Apache-2.0
#include "relay/cli/check.h"

#include <stdio.h>

bool check_schema_files(struct check *check, const struct check_schema *schema, struct migration_files *files)
{
    struct relay_error error;
    char what[32];
    if (migration_files_read(files, check->schemas, schema->server, &error)) {
        return true;
    }
    snprintf(what, sizeof(what), "schema %s", schema->server);
    check_add(check->report, CHECK_WARN, what, "name their folder with --schemas",
        "whether everything is migrated cannot be told: %s", error.text);
    return false;
}

void check_schema_applied(struct check *check, const struct check_schema *schema, const struct migration_files *files,
    const struct migration_records *records)
{
    size_t pending, drifted;
    char what[32], hint[80];
    snprintf(what, sizeof(what), "schema %s", schema->server);
    snprintf(hint, sizeof(hint), "outbox-relay migrate %s status names them", schema->server);
    migration_count(files, records, &pending, &drifted);
    if (pending > 0) {
        check_add(check->report, CHECK_FAIL, what, schema->up, "%zu of %zu schema files are not applied", pending,
            files->count);
    }
    if (drifted > 0) {
        check_add(check->report, CHECK_WARN, what, hint, "%zu applied schema files differ from those of this version",
            drifted);
    }
    if (pending == 0 && drifted == 0) {
        check_add(check->report, CHECK_OK, what, "", "all %zu schema files are applied", files->count);
    }
}
