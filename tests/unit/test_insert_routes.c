// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/insert_routes.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static bool second_takes(const char *first, const char *second)
{
    char *topics[] = {(char *)(uintptr_t) "events"};
    struct config_route list[2] = {
        {.name = (char *)(uintptr_t) "a", .table = (char *)(uintptr_t)first, .enabled = true},
        {.name = (char *)(uintptr_t) "b", .table = (char *)(uintptr_t)second, .enabled = true}};
    list[0].topics.items = list[1].topics.items = topics;
    list[0].topics.count = list[1].topics.count = 1;
    struct config config = {.routes = list, .route_count = 2};
    config.clickhouse.database = (char *)(uintptr_t) "shop";
    struct insert_routes *routes = insert_routes_new(&config, NULL);
    cr_assert_not_null(routes);
    cr_assert(insert_routes_match(routes, 0, "events"));
    bool takes = insert_routes_match(routes, 1, "events");
    insert_routes_free(routes);
    return takes;
}

Test(insert_routes, a_table_takes_a_message_once_however_its_database_is_written)
{
    cr_assert_not(second_takes("orders", "orders"));
    cr_assert_not(second_takes("orders", "shop.orders"));
    cr_assert_not(second_takes("shop.orders", "orders"));
    cr_assert(second_takes("orders", "other.orders"));
    cr_assert(second_takes("orders", "shop.others"));
    cr_assert(second_takes("shop.orders", "sho.orders"));
}

static void collect(void *context, const struct insert_overlap *overlap)
{
    char *text = context;
    size_t length = strlen(text);
    snprintf(text + length, 200 - length, "%s<%s:%s ", overlap->first->name, overlap->route->name, overlap->topic);
}

Test(insert_routes, what_a_route_never_gets_is_told)
{
    char any[] = "^shop\\..*", post[] = "shop.post", like[] = "shop.like", t[] = "t", full[] = "db.t", u[] = "u";
    char a[] = "a", b[] = "b", c[] = "c", d[] = "d", e[] = "e";
    char *all[] = {any}, *two[] = {post, like}, *one[] = {like};
    struct config_route list[] = {{.name = a, .table = t, .enabled = true, .topics = {one, 1}},
        {.name = b, .table = full, .enabled = true, .topics = {all, 1}},
        {.name = c, .table = t, .enabled = true, .topics = {two, 2}},
        {.name = d, .table = u, .enabled = true, .topics = {two, 2}},
        {.name = e, .table = t, .enabled = true, .topics = {all, 1}}};
    struct config config = {.routes = list, .route_count = 5};
    config.clickhouse.database = (char *)(uintptr_t) "db";
    struct insert_routes *routes = insert_routes_new(&config, NULL);
    cr_assert_not_null(routes);
    char told[200] = "";
    insert_routes_overlaps(routes, collect, told);
    cr_assert_str_eq(told, "b<c:shop.post a<c:shop.like b<e:^shop\\..* ");
    cr_assert_not(insert_routes_match(routes, 2, "shop.post"));
    cr_assert(insert_routes_match(routes, 1, "shop.post"), "an expression behind a name takes the rest");
    insert_routes_free(routes);
}

Test(insert_routes, a_subscription_stands_for_its_name_or_for_what_it_matches)
{
    char *topics[] = {(char *)(uintptr_t) "orders", (char *)(uintptr_t) "^shop\\.[^.]+$"};
    struct config_route list[] = {{.name = (char *)(uintptr_t) "a", .table = (char *)(uintptr_t) "t", .enabled = true}};
    list[0].topics.items = topics;
    list[0].topics.count = 2;
    struct config config = {.routes = list, .route_count = 1};
    struct insert_routes *routes = insert_routes_new(&config, NULL);
    cr_assert_not_null(routes);
    cr_assert(insert_routes_means(routes, "orders", "orders"));
    cr_assert_not(insert_routes_means(routes, "orders", "orders2"));
    cr_assert(insert_routes_means(routes, "^shop\\.[^.]+$", "shop.post"));
    cr_assert_not(insert_routes_means(routes, "^shop\\.[^.]+$", "orders"));
    cr_assert_not(insert_routes_means(routes, "^other", "other"));
    insert_routes_free(routes);
}
