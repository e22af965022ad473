// SPDX-License-Identifier: Apache-2.0
//
// The document as one screen, and its exit code. A member that a daemon of another version does not send is left out.
#include "relay/cli/status.h"

#include <math.h>
#include <string.h>

static const char *text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text ? text : "";
}

int status_level_of_state(const json_t *state)
{
    const char *word = text_of(state, "status");
    return strcmp(word, "ok") == 0 ? 0 : strcmp(word, "degraded") == 0 ? 1 : 2;
}

int status_level_of(const json_t *status)
{
    int level = status_level_of_state(status);
    const json_t *checks = json_object_get(status, "checks");
    const char *name;
    json_t *check;
    // A daemon of which one stage stands while the other goes on calls the whole of itself degraded.
    json_object_foreach((json_t *)(uintptr_t)checks, name, check)
    {
        int of_this = status_level_of_state(check);
        level = of_this > level ? of_this : level;
    }
    const json_t *outboxes = json_object_get(json_object_get(checks, "outbox"), "instances");
    json_t *outbox;
    json_object_foreach((json_t *)(uintptr_t)outboxes, name, outbox)
    {
        const char *health = text_of(json_object_get(outbox, "figures"), "health");
        int of_this = strcmp(health, "CRITICAL") == 0 ? 2 : strcmp(health, "WARNING") == 0 ? 1 : 0;
        level = of_this > level ? of_this : level;
    }
    return level;
}

static const char *colour_of(const char *status, bool colour)
{
    if (!colour) {
        return "";
    }
    return strcmp(status, "ok") == 0 ? "\033[32m" : strcmp(status, "degraded") == 0 ? "\033[33m" : "\033[1;31m";
}

static void print_figure(FILE *to, const char *name, const json_t *value)
{
    if (json_is_string(value)) {
        fprintf(to, "  %s: %s", name, json_string_value(value));
    } else if (json_is_number(value)) {
        double number = json_number_value(value);
        fprintf(to, rint(number) == number ? "  %s: %.0f" : "  %s: %.3f", name, number);
    }
}

static void print_state(FILE *to, const char *check, const char *instance, const json_t *state, bool colour)
{
    const char *status = text_of(state, "status"), *reason = text_of(state, "reason"), *name;
    fprintf(to, "%-11s %s%-8s%s %s", check, colour_of(status, colour), status, colour ? "\033[0m" : "", instance);
    if (reason[0] != '\0') {
        fprintf(to, "  %s", reason);
    }
    json_t *figures = json_object_get(state, "figures"), *value;
    json_object_foreach(figures, name, value)
    {
        if (strcmp(name, "message") != 0 || strcmp(reason, text_of(figures, "message")) != 0) {
            print_figure(to, name, value);
        }
    }
    fputc('\n', to);
}

// Where something is wrong it may be nowhere: with a session that holds the outbox's lock and is no relay, say.
static bool is_elsewhere(const json_t *checks, const char *check, const char *outbox, const char *figure,
    const char *word)
{
    const json_t *instances = json_object_get(json_object_get(checks, check), "instances");
    const json_t *one = json_object_get(instances, outbox);
    return status_level_of_state(one) == 0 && strcmp(text_of(json_object_get(one, "figures"), figure), word) == 0;
}

// A daemon that neither publishes an outbox nor watches it is well, whatever is wrong with the outbox.
static void print_elsewhere(FILE *to, const json_t *checks)
{
    const json_t *instances = json_object_get(json_object_get(checks, "outbox"), "instances");
    const char *outbox, *first = NULL;
    json_t *one;
    size_t others = 0;
    json_object_foreach((json_t *)(uintptr_t)instances, outbox, one)
    {
        if (is_elsewhere(checks, "publish", outbox, "role", "standby") ||
            is_elsewhere(checks, "outbox", outbox, "watched_by", "another replica")) {
            others += first != NULL;
            first = first == NULL ? outbox : first;
        }
    }
    if (first == NULL) {
        return;
    }
    fprintf(to, "%-11s another replica publishes or watches the outbox %s", "elsewhere", first);
    if (others > 0) {
        fprintf(to, " and %zu more", others);
    }
    fputs(": ask that one too, or the servers (--servers)\n", to);
}

static void print_checks(FILE *to, const json_t *status, bool colour)
{
    const char *check, *instance;
    json_t *state, *one;
    json_object_foreach(json_object_get(status, "checks"), check, state)
    {
        json_t *instances = json_object_get(state, "instances");
        if (json_object_size(json_object_get(state, "figures")) > 0 || json_object_size(instances) == 0) {
            print_state(to, check, "", state, colour);
        }
        json_object_foreach(instances, instance, one)
        {
            print_state(to, check, instance, one, colour);
        }
    }
}

static const char *plural(json_int_t count)
{
    return count == 1 ? "" : "s";
}

// The sums of `lag`, which is all there is of it unless a daemon tells the sums itself.
static json_t *lag_by_topic(const json_t *lag)
{
    json_t *topics = json_object(), *one;
    size_t i;
    json_array_foreach(lag, i, one)
    {
        const char *name = text_of(one, "topic");
        const json_t *topic = json_object_get(topics, name);
        json_int_t messages = json_integer_value(json_object_get(topic, "messages"));
        json_int_t partitions = json_integer_value(json_object_get(topic, "partitions"));
        messages += json_integer_value(json_object_get(one, "messages"));
        json_object_set_new(topics, name, json_pack("{s:I, s:I}", "messages", messages, "partitions", partitions + 1));
    }
    return topics;
}

static void print_lag(FILE *to, const json_t *status)
{
    json_t *told = json_object_get(status, "lag_by_topic");
    json_t *topics = told != NULL ? json_incref(told) : lag_by_topic(json_object_get(status, "lag"));
    const char *name;
    json_t *topic;
    json_object_foreach(topics, name, topic)
    {
        json_int_t messages = json_integer_value(json_object_get(topic, "messages"));
        json_int_t partitions = json_integer_value(json_object_get(topic, "partitions"));
        fprintf(to, "%-11s %" JSON_INTEGER_FORMAT " message%s behind in %s (%" JSON_INTEGER_FORMAT " partition%s)\n",
            "lag", messages, plural(messages), name, partitions, plural(partitions));
    }
    json_decref(topics);
}

static void print_list(FILE *to, const json_t *status, const char *list, const char *title, const char *first,
    const char *second, const char *number)
{
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(status, list), i, one)
    {
        fprintf(to, "%-11s %" JSON_INTEGER_FORMAT " %s %s%s%s\n", i == 0 ? title : "",
            json_integer_value(json_object_get(one, number)), number, text_of(one, first), second[0] != '\0' ? " " : "",
            second[0] != '\0' ? text_of(one, second) : "");
    }
    json_int_t left_out = json_integer_value(json_object_get(json_object_get(status, "left_out"), list));
    if (left_out > 0) {
        fprintf(to, "%-11s and %" JSON_INTEGER_FORMAT " more, %" JSON_INTEGER_FORMAT " %s in all; see /metrics\n", "",
            left_out, json_integer_value(json_object_get(json_object_get(status, "totals"), list)), number);
    }
}

static void print_breakers(FILE *to, const json_t *breakers)
{
    size_t i;
    json_t *one;
    bool any = false;
    json_array_foreach(breakers, i, one)
    {
        fprintf(to, "%s%s %s", any ? ", " : "breakers    ", text_of(one, "dependency"), text_of(one, "state"));
        any = true;
    }
    if (any) {
        fputc('\n', to);
    }
}

static void print_alerts(FILE *to, const json_t *alerts)
{
    size_t i;
    json_t *one;
    json_array_foreach(alerts, i, one)
    {
        if (i == 5) {
            break;
        }
        fprintf(to, "%-11s %s %s %s %s: %s\n", i == 0 ? "alerts" : "", text_of(one, "at"), text_of(one, "level"),
            text_of(one, "name"), text_of(one, "instance"), text_of(one, "summary"));
    }
}

void status_print(FILE *to, const json_t *status, bool colour)
{
    const char *word = text_of(status, "status"), *source = text_of(status, "source");
    fprintf(to, "outbox-relay %s%s%s", colour_of(word, colour), word, colour ? "\033[0m" : "");
    if (strcmp(source, "servers") == 0) {
        const char *note = text_of(status, "note");
        fprintf(to, note[0] == '\0' ? "  as the servers say\n" : "  as the servers say (%s)\n", note);
    } else {
        fprintf(to, "  %s, version %s, instance %.8s, up %" JSON_INTEGER_FORMAT " s%s\n", source,
            text_of(status, "version"), text_of(status, "instance"),
            json_integer_value(json_object_get(status, "uptime_seconds")),
            json_is_true(json_object_get(status, "stopping")) ? ", stopping" : "");
    }
    print_elsewhere(to, json_object_get(status, "checks"));
    print_checks(to, status, colour);
    print_lag(to, status);
    print_list(to, status, "published", "published", "topic", "", "events");
    print_list(to, status, "inserted", "inserted", "table", "", "rows");
    print_list(to, status, "tables", "tables", "table", "", "rows");
    print_list(to, status, "dead_letters", "dead", "stage", "reason", "events");
    print_breakers(to, json_object_get(status, "breakers"));
    print_alerts(to, json_object_get(status, "alerts"));
}
