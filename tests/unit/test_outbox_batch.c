// SPDX-License-Identifier: Apache-2.0
#include "relay/publish/outbox_batch.h"

#include <criterion/criterion.h>
#include <endian.h>

#define EPOCH_US INT64_C(946684800000000) // 2000-01-01, from which PostgreSQL counts

// A binary result of one row that has a number and a time.
static PGresult *result_of(int64_t created_at)
{
    enum { COLUMNS = 8 };
    static char name[] = "column";
    PGresult *result = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    PGresAttDesc columns[COLUMNS];
    for (size_t i = 0; i < COLUMNS; i++) {
        columns[i] = (PGresAttDesc){.name = name, .format = 1};
    }
    cr_assert(result && PQsetResultAttrs(result, COLUMNS, columns));
    uint64_t raw[COLUMNS] = {[0] = htobe64(1), [COLUMNS - 1] = htobe64((uint64_t)created_at)};
    for (int i = 0; i < COLUMNS; i++) {
        bool set = i == 0 || i == COLUMNS - 1;
        cr_assert(PQsetvalue(result, 0, i, set ? (char *)&raw[i] : NULL, set ? (int)sizeof(raw[i]) : -1));
    }
    return result;
}

static struct outbox_row row_of(int64_t created_at)
{
    struct relay_error error;
    struct outbox_table table = {0};
    struct outbox_batch *batch = outbox_batch_new(4096, &error);
    cr_assert_not_null(batch);
    cr_assert(outbox_batch_add(batch, &table, 0, false, result_of(created_at), &error), "%s", error.text);
    cr_assert_eq(batch->count, 1);
    struct outbox_row row = batch->rows[0];
    outbox_batch_free(batch);
    return row;
}

Test(outbox_batch, times_beyond_microseconds_since_1970_are_infinite)
{
    struct outbox_row row = row_of(INT64_MAX - EPOCH_US);
    cr_assert_eq(row.created_at_kind, CREATED_AT_FINITE);
    cr_assert_eq(row.created_at_us, INT64_MAX);
    const int64_t beyond[] = {INT64_MAX - EPOCH_US + 1, INT64_C(9223371331200000000) - 1, INT64_MAX};
    for (size_t i = 0; i < sizeof(beyond) / sizeof(beyond[0]); i++) {
        row = row_of(beyond[i]);
        cr_assert_eq(row.created_at_kind, CREATED_AT_INFINITY);
        cr_assert_eq(row.created_at_us, 0);
    }
}

Test(outbox_batch, the_earliest_times_are_what_they_are)
{
    const int64_t first = INT64_C(-211813488000000000); // 4714-11-24 BC
    struct outbox_row row = row_of(first);
    cr_assert_eq(row.created_at_kind, CREATED_AT_FINITE);
    cr_assert_eq(row.created_at_us, first + EPOCH_US);
    row = row_of(INT64_MIN);
    cr_assert_eq(row.created_at_kind, CREATED_AT_MINUS_INFINITY);
    cr_assert_eq(row.created_at_us, 0);
}
