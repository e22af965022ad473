// SPDX-License-Identifier: Apache-2.0
#include "relay/clickhouse/clickhouse_client.h"
#include "relay/insert/insert_query_id.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static struct insert_places ours, theirs;
static char id[CLICKHOUSE_QUERY_ID_ROOM];

static enum insert_concern concern_of_theirs(void)
{
    insert_query_id_write(id, sizeof(id), "outbox-relay-01234567-89abcdef-", "0123456789abcdef", "a route", UINT64_MAX,
        &theirs);
    return insert_query_id_concern(id, &ours);
}

static void finish(void)
{
    insert_places_finish(&ours);
    insert_places_finish(&theirs);
}

Test(insert_query_id, tells_whose_partitions_an_insert_has, .fini = finish)
{
    insert_places_add(&ours, "posts", 1);
    insert_places_add(&ours, "posts", 2);
    insert_places_add(&theirs, "posts", 12);
    insert_places_add(&theirs, "likes", 1);
    cr_assert_eq(concern_of_theirs(), INSERT_CONCERNS_OTHERS);
    insert_places_add(&theirs, "posts", 2);
    cr_assert_eq(concern_of_theirs(), INSERT_CONCERNS_US);
}

Test(insert_query_id, names_as_many_as_have_room_and_else_may_concern_anybody, .fini = finish)
{
    insert_places_add(&ours, "posts", INSERT_QUERY_ID_PLACES - 1);
    for (int32_t i = 0; i < INSERT_QUERY_ID_PLACES; i++) {
        insert_places_add(&theirs, "posts", i);
        insert_places_add(&theirs, "posts", i); // once
    }
    cr_assert_eq(concern_of_theirs(), INSERT_CONCERNS_US);
    cr_assert_lt(strlen(id), sizeof(id) - 1);
    insert_places_add(&theirs, "posts", INSERT_QUERY_ID_PLACES);
    cr_assert_eq(concern_of_theirs(), INSERT_CONCERN_UNKNOWN);
}

Test(insert_query_id, what_names_nothing_may_concern_anybody, .fini = finish)
{
    insert_places_add(&ours, "posts", 1);
    cr_assert_eq(insert_query_id_concern("outbox-relay-01234567-89abcdef-i-01234567-1.", &ours),
        INSERT_CONCERN_UNKNOWN);
    cr_assert_eq(insert_query_id_concern("outbox-relay-1", &ours), INSERT_CONCERN_UNKNOWN);
    cr_assert_eq(insert_query_id_concern("p-1.0123456", &ours), INSERT_CONCERN_UNKNOWN);
    cr_assert_eq(insert_query_id_concern("p-1.01234567-learn-version", &ours), INSERT_CONCERN_UNKNOWN);
    ours.unknown = true;
    cr_assert_eq(insert_query_id_concern("p-1.01234567", &ours), INSERT_CONCERN_UNKNOWN);
}
