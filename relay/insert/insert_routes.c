// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/insert_routes.h"

#include <regex.h>
#include <stdlib.h>
#include <string.h>

struct pattern {
    const char *text;
    bool is_expression;
    regex_t expression;
};

struct compiled_route {
    const struct config_route *route;
    struct pattern *patterns;
    size_t pattern_count;
};

struct insert_routes {
    struct compiled_route *routes;
    size_t count;
    const char **topics;
    size_t topic_count;
    const char *database; // of tables that name none
};

static bool compile(struct compiled_route *compiled, const struct config_route *route, struct relay_error *error)
{
    compiled->route = route;
    compiled->patterns = calloc(route->topics.count + 1, sizeof(*compiled->patterns));
    if (!compiled->patterns) {
        return error_no_memory(error, "preparing the routes");
    }
    for (size_t i = 0; i < route->topics.count; i++) {
        struct pattern *pattern = &compiled->patterns[i];
        pattern->text = route->topics.items[i];
        pattern->is_expression = pattern->text[0] == '^';
        if (pattern->is_expression) {
            int failed = regcomp(&pattern->expression, pattern->text, REG_EXTENDED | REG_NOSUB);
            if (failed) {
                char why[128];
                regerror(failed, &pattern->expression, why, sizeof(why));
                return error_set(error, RELAY_ERROR_CONFIG, "[route %s] topics: %.200s: %s", route->name, pattern->text,
                    why);
            }
        }
        compiled->pattern_count++;
    }
    return true;
}

static bool add_topic(struct insert_routes *routes, const char *topic)
{
    for (size_t i = 0; i < routes->topic_count; i++) {
        if (strcmp(routes->topics[i], topic) == 0) {
            return true;
        }
    }
    const char **topics = reallocarray(routes->topics, routes->topic_count + 1, sizeof(const char *));
    if (!topics) {
        return false;
    }
    routes->topics = topics;
    topics[routes->topic_count++] = topic;
    return true;
}

struct insert_routes *insert_routes_new(const struct config *config, struct relay_error *error)
{
    struct insert_routes *routes = calloc(1, sizeof(*routes));
    if (routes) {
        routes->routes = calloc(config->route_count + 1, sizeof(*routes->routes));
    }
    if (!routes || !routes->routes) {
        error_no_memory(error, "preparing the routes");
        goto failed;
    }
    const char *database = config->clickhouse.database;
    routes->database = database && database[0] != '\0' ? database : "default";
    for (size_t i = 0; i < config->route_count; i++) {
        const struct config_route *route = &config->routes[i];
        if (!route->enabled) {
            continue;
        }
        if (!compile(&routes->routes[routes->count++], route, error)) {
            goto failed;
        }
        for (size_t j = 0; j < route->topics.count; j++) {
            if (!add_topic(routes, route->topics.items[j])) {
                error_no_memory(error, "preparing the routes");
                goto failed;
            }
        }
    }
    if (routes->topic_count == 0) {
        error_set(error, RELAY_ERROR_CONFIG, "[insert] is enabled, but no enabled route has topics");
        goto failed;
    }
    return routes;

failed:
    insert_routes_free(routes);
    return NULL;
}

void insert_routes_free(struct insert_routes *routes)
{
    if (!routes) {
        return;
    }
    for (size_t i = 0; routes->routes && i < routes->count; i++) {
        struct compiled_route *compiled = &routes->routes[i];
        for (size_t j = 0; j < compiled->pattern_count; j++) {
            if (compiled->patterns[j].is_expression) {
                regfree(&compiled->patterns[j].expression);
            }
        }
        free(compiled->patterns);
    }
    free(routes->routes);
    free(routes->topics);
    free(routes);
}

size_t insert_routes_count(const struct insert_routes *routes)
{
    return routes->count;
}

const struct config_route *insert_routes_at(const struct insert_routes *routes, size_t index)
{
    return routes->routes[index].route;
}

static bool pattern_takes(const struct pattern *pattern, const char *topic)
{
    return pattern->is_expression ? regexec(&pattern->expression, topic, 0, NULL, 0) == 0
                                  : strcmp(pattern->text, topic) == 0;
}

static bool takes(const struct compiled_route *compiled, const char *topic)
{
    for (size_t i = 0; i < compiled->pattern_count; i++) {
        if (pattern_takes(&compiled->patterns[i], topic)) {
            return true;
        }
    }
    return false;
}

// Whether the route names this very expression, or takes this topic.
static bool covers(const struct compiled_route *compiled, const struct pattern *pattern)
{
    if (!pattern->is_expression) {
        return takes(compiled, pattern->text);
    }
    for (size_t i = 0; i < compiled->pattern_count; i++) {
        if (strcmp(compiled->patterns[i].text, pattern->text) == 0) {
            return true;
        }
    }
    return false;
}

// "t" and "db.t" are one where [clickhouse] database is db.
static bool same_table(const struct insert_routes *routes, const char *a, const char *b)
{
    const char *dot_a = strchr(a, '.'), *dot_b = strchr(b, '.');
    if (!dot_a == !dot_b) {
        return strcmp(a, b) == 0;
    }
    const char *full = dot_a ? a : b, *dot = dot_a ? dot_a : dot_b, *table = dot_a ? b : a;
    size_t length = (size_t)(dot - full);
    return strcmp(dot + 1, table) == 0 && strlen(routes->database) == length &&
        strncmp(full, routes->database, length) == 0;
}

bool insert_routes_fills(const struct insert_routes *routes, size_t index, const char *table)
{
    return same_table(routes, routes->routes[index].route->table, table);
}

// The route before this one that takes what matches into the same table, or NULL.
static const struct config_route *first_taker(const struct insert_routes *routes, size_t index,
    const struct pattern *pattern)
{
    for (size_t i = 0; i < index; i++) {
        if (insert_routes_fills(routes, i, routes->routes[index].route->table) && covers(&routes->routes[i], pattern)) {
            return routes->routes[i].route;
        }
    }
    return NULL;
}

bool insert_routes_match(const struct insert_routes *routes, size_t index, const char *topic)
{
    const struct pattern name = {.text = topic};
    return takes(&routes->routes[index], topic) && !first_taker(routes, index, &name);
}

void insert_routes_overlaps(const struct insert_routes *routes,
    void (*tell)(void *context, const struct insert_overlap *overlap), void *context)
{
    for (size_t i = 0; i < routes->count; i++) {
        const struct compiled_route *compiled = &routes->routes[i];
        for (size_t j = 0; j < compiled->pattern_count; j++) {
            struct insert_overlap overlap = {.route = compiled->route, .topic = compiled->patterns[j].text};
            overlap.first = first_taker(routes, i, &compiled->patterns[j]);
            if (overlap.first) {
                tell(context, &overlap);
            }
        }
    }
}

const char *const *insert_routes_topics(const struct insert_routes *routes, size_t *count)
{
    *count = routes->topic_count;
    return routes->topics;
}

bool insert_routes_means(const struct insert_routes *routes, const char *subscribed, const char *topic)
{
    for (size_t i = 0; i < routes->count; i++) {
        const struct compiled_route *compiled = &routes->routes[i];
        for (size_t j = 0; j < compiled->pattern_count; j++) {
            if (strcmp(compiled->patterns[j].text, subscribed) == 0) {
                return pattern_takes(&compiled->patterns[j], topic);
            }
        }
    }
    return false;
}
