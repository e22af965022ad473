// SPDX-License-Identifier: Apache-2.0
#include "relay/json/json_paths.h"

#include "relay/base/error.h"

#include <stdlib.h>
#include <string.h>

struct json_paths *json_paths_new(struct relay_error *error)
{
    struct json_paths *paths = calloc(1, sizeof(*paths));
    struct json_path_node *root = calloc(1, sizeof(*root));
    if (!paths || !root) {
        free(paths);
        free(root);
        error_no_memory(error, "compiling paths");
        return NULL;
    }
    *root = (struct json_path_node){.value = JSON_PATH_NONE,
        .first_child = JSON_PATH_NONE,
        .next_sibling = JSON_PATH_NONE};
    paths->nodes = root;
    paths->node_count = 1;
    return paths;
}

void json_paths_free(struct json_paths *paths)
{
    if (paths) {
        for (size_t i = 0; i < paths->node_count; i++) {
            free(paths->nodes[i].name);
        }
        free(paths->nodes);
        free(paths);
    }
}

static bool is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
        (unsigned char)c >= 0x80;
}

// The child for a step: found or made. name is taken over. JSON_PATH_NONE: out of memory.
static size_t child_of(struct json_paths *paths, size_t parent, char *name, size_t name_length, uint64_t element)
{
    size_t last = JSON_PATH_NONE;
    for (size_t i = paths->nodes[parent].first_child; i != JSON_PATH_NONE; i = paths->nodes[i].next_sibling) {
        const struct json_path_node *node = &paths->nodes[i];
        bool same = name ? node->name && node->name_length == name_length && memcmp(node->name, name, name_length) == 0
                         : !node->name && node->element == element;
        if (same) {
            free(name);
            return i;
        }
        last = i;
    }
    struct json_path_node *nodes = reallocarray(paths->nodes, paths->node_count + 1, sizeof(*nodes));
    if (!nodes) {
        free(name);
        return JSON_PATH_NONE;
    }
    paths->nodes = nodes;
    size_t made = paths->node_count++;
    nodes[made] = (struct json_path_node){.name = name,
        .name_length = name_length,
        .element = element,
        .value = JSON_PATH_NONE,
        .first_child = JSON_PATH_NONE,
        .next_sibling = JSON_PATH_NONE};
    if (last == JSON_PATH_NONE) {
        nodes[parent].first_child = made;
    } else {
        nodes[last].next_sibling = made;
    }
    return made;
}

struct step {
    char *name;
    size_t name_length;
    uint64_t element;
};

// ["name"] or ['name'], *at past the bracket.
static const char *quoted_step(const char *text, size_t length, size_t *at, struct step *step, bool *memory)
{
    char quote = text[(*at)++];
    char *name = malloc(length - *at + 1);
    if (!name) {
        *memory = false;
        return "out of memory";
    }
    size_t used = 0;
    while (*at < length && text[*at] != quote) {
        if (text[*at] == '\\' && *at + 1 < length) {
            (*at)++;
        }
        name[used++] = text[(*at)++];
    }
    if (*at + 1 >= length || text[*at + 1] != ']') {
        free(name);
        return "the quoted name is not closed by its quote and ]";
    }
    *at += 2;
    name[used] = '\0';
    step->name = name;
    step->name_length = used;
    return NULL;
}

// One step from *at on. NULL: done; else what is wrong.
static const char *read_step(const char *text, size_t length, size_t *at, struct step *step, bool *memory)
{
    *step = (struct step){0};
    if (text[*at] == '.') {
        size_t start = ++*at;
        while (*at < length && is_name(text[*at])) {
            (*at)++;
        }
        if (*at == start) {
            return "a member name is missing after the dot (odd names: [\"...\"])";
        }
        step->name = strndup(text + start, *at - start);
        step->name_length = *at - start;
        *memory = step->name != NULL;
        return step->name ? NULL : "out of memory";
    }
    if (text[*at] != '[') {
        return "expected . or [";
    }
    (*at)++;
    if (*at < length && (text[*at] == '"' || text[*at] == '\'')) {
        return quoted_step(text, length, at, step, memory);
    }
    size_t start = *at;
    while (*at < length && text[*at] >= '0' && text[*at] <= '9' && *at - start < 9) {
        step->element = step->element * 10 + (uint64_t)(text[(*at)++] - '0');
    }
    if (*at == start || *at >= length || text[*at] != ']') {
        return "expected [N] with N up to 999999999, or [\"name\"]";
    }
    (*at)++;
    return NULL;
}

bool json_paths_add(struct json_paths *paths, const char *text, size_t length, size_t *index, struct relay_error *error)
{
    if (length == 0 || text[0] != '$') {
        return error_set(error, RELAY_ERROR_CONFIG, "a path begins with $");
    }
    size_t node = 0;
    for (size_t at = 1; at < length;) {
        struct step step;
        bool memory = true;
        const char *wrong = read_step(text, length, &at, &step, &memory);
        if (wrong && memory) {
            return error_set(error, RELAY_ERROR_CONFIG, "path %.*s, character %zu: %s",
                length > 100 ? 100 : (int)length, text, at + 1, wrong);
        }
        node = wrong ? JSON_PATH_NONE : child_of(paths, node, step.name, step.name_length, step.element);
        if (node == JSON_PATH_NONE) {
            return error_no_memory(error, "compiling paths");
        }
    }
    if (paths->nodes[node].value == JSON_PATH_NONE) {
        paths->nodes[node].value = paths->value_count++;
    }
    *index = paths->nodes[node].value;
    return true;
}

// How many bytes the step at text[at] takes; 0: it is none.
static size_t step_span(const char *text, size_t length, size_t at)
{
    size_t start = at;
    if (text[at++] == '.') {
        while (at < length && is_name(text[at])) {
            at++;
        }
        return at > start + 1 ? at - start : 0;
    }
    if (at < length && (text[at] == '"' || text[at] == '\'')) {
        char quote = text[at++];
        while (at < length && text[at] != quote) {
            at += text[at] == '\\' ? 2 : 1;
        }
        at++;
    } else {
        while (at < length && text[at] >= '0' && text[at] <= '9') {
            at++;
        }
    }
    return at < length && text[at] == ']' ? at + 1 - start : 0;
}

size_t json_paths_span(const char *text, size_t length)
{
    size_t at = length > 0 && text[0] == '$' ? 1 : 0;
    while (at > 0 && at < length && (text[at] == '.' || text[at] == '[')) {
        size_t step = step_span(text, length, at);
        if (step == 0) {
            break;
        }
        at += step;
    }
    return at;
}
