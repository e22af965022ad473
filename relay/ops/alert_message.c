// SPDX-License-Identifier: Apache-2.0
#include "relay/ops/alert_message.h"
#include "relay/base/version.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *alert_receiver_name(enum alert_receiver_kind kind)
{
    static const char *const names[] = {"webhook", "slack", "alertmanager"};
    return names[kind];
}

static json_t *json_time(struct wall_time at)
{
    char text[WALL_TIME_TEXT];
    wall_time_format(at, text);
    return json_string(text);
}

// An empty text is no member.
static void put_if_any(json_t *object, const char *member, const char *text)
{
    if (text[0] != '\0') {
        json_object_set_new(object, member, json_string(text));
    }
}

static json_t *webhook_alert(const struct alert_condition *condition, const char *deployment)
{
    char fingerprint[ALERT_FINGERPRINT];
    alert_fingerprint(condition, deployment, fingerprint);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:f, s:b, s:o, s:o, s:s}", "status",
        condition->announced == ALERT_OK ? "resolved" : "firing", "level", alert_level_name(condition->announced),
        "previous", alert_level_name(condition->before), "name", condition->name, "instance", condition->instance,
        "summary", condition->summary, "value", condition->value, "repeated", condition->repeated, "started_at",
        json_time(condition->started_at), "changed_at", json_time(condition->changed_at), "fingerprint", fingerprint);
}

static char *webhook(const struct alert_condition *const *conditions, size_t count, const struct alert_sender *sender,
    struct wall_time now)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(list, webhook_alert(conditions[i], sender->deployment));
    }
    json_t *root = json_pack("{s:i, s:{s:s, s:s, s:s}, s:o, s:o}", "version", 1, "sender", "program", "outbox-relay",
        "version", relay_version(), "instance", sender->instance, "sent_at", json_time(now), "alerts", list);
    put_if_any(json_object_get(root, "sender"), "deployment", sender->deployment);
    char *text = root == NULL ? NULL : json_dumps(root, JSON_COMPACT);
    json_decref(root);
    return text;
}

// Slack's three characters that mean something in its markup.
static void put_slack_text(FILE *out, const char *text)
{
    for (; *text != '\0'; text++) {
        switch (*text) {
        case '&': fputs("&amp;", out); break;
        case '<': fputs("&lt;", out); break;
        case '>': fputs("&gt;", out); break;
        default: fputc(*text, out);
        }
    }
}

static void put_slack_line(FILE *out, const struct alert_condition *condition, const char *deployment)
{
    static const char *const marks[] = {":white_check_mark:", ":warning:", ":rotating_light:"};
    if (deployment[0] != '\0') {
        fputc('[', out);
        put_slack_text(out, deployment);
        fputs("] ", out);
    }
    fprintf(out, "%s *%s* ", marks[condition->announced],
        condition->announced == ALERT_OK ? "RESOLVED" : alert_level_name(condition->announced));
    put_slack_text(out, condition->name);
    if (condition->instance[0] != '\0') {
        fputs(" `", out);
        put_slack_text(out, condition->instance);
        fputc('`', out);
    }
    fputs(": ", out);
    put_slack_text(out, condition->summary);
    if (condition->repeated || condition->announced == ALERT_OK) {
        char since[WALL_TIME_TEXT];
        wall_time_format(condition->started_at, since);
        fprintf(out, condition->announced == ALERT_OK ? " (was %s; began %.19sZ)" : " (still; %s since %.19sZ)",
            alert_level_name(condition->announced == ALERT_OK ? condition->before : condition->announced), since);
    }
    fputc('\n', out);
}

static char *slack(const struct alert_condition *const *conditions, size_t count, const char *deployment)
{
    char *lines = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&lines, &length);
    if (out == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        put_slack_line(out, conditions[i], deployment);
    }
    if (fclose(out) != 0 || lines == NULL) {
        free(lines);
        return NULL;
    }
    json_t *root = json_pack("{s:s%}", "text", lines, length - 1); // without the last newline
    char *text = root == NULL ? NULL : json_dumps(root, JSON_COMPACT);
    json_decref(root);
    free(lines);
    return text;
}

// A level of a condition is an alert of its own there, because severity is a label and labels are its identity.
static json_t *alertmanager_alert(const struct alert_condition *condition, enum alert_level level,
    struct wall_time starts, struct wall_time ends, const struct alert_sender *sender)
{
    char fingerprint[ALERT_FINGERPRINT];
    char value[32];
    alert_fingerprint(condition, sender->deployment, fingerprint);
    snprintf(value, sizeof(value), "%.15g", condition->value);
    json_t *labels = json_pack("{s:s, s:s, s:s, s:s}", "alertname", condition->name, "service", "outbox-relay",
        "severity", level == ALERT_CRITICAL ? "critical" : "warning", "fingerprint", fingerprint);
    if (condition->instance[0] != '\0') {
        json_object_set_new(labels, strcmp(condition->name, "outbox_backlog") == 0 ? "outbox" : "part",
            json_string(condition->instance));
    }
    put_if_any(labels, "deployment", sender->deployment);
    return json_pack("{s:o, s:{s:s, s:s, s:s}, s:o, s:o}", "labels", labels, "annotations", "summary",
        condition->summary, "value", value, "reported_by", sender->instance, "startsAt", json_time(starts), "endsAt",
        json_time(ends));
}

static struct wall_time earlier(struct wall_time a, struct wall_time b)
{
    return a.us < b.us ? a : b;
}

// The times are those that the clock showed. If it was set back since, they are in the future: the Alertmanager would
// refuse a start behind the end, and what is over would end later than now.
static char *alertmanager(const struct alert_condition *const *conditions, size_t count,
    const struct alert_sender *sender, struct wall_time now)
{
    json_t *list = json_array();
    struct wall_time valid = {now.us + ALERTMANAGER_VALID.ns / 1000};
    for (size_t i = 0; i < count; i++) {
        const struct alert_condition *condition = conditions[i];
        const bool *open = condition->receivers[ALERT_ALERTMANAGER].open;
        for (enum alert_level level = ALERT_WARNING; level <= ALERT_CRITICAL; level++) {
            if (level == condition->announced) {
                struct wall_time began = condition->before == ALERT_OK ? condition->started_at : condition->changed_at;
                json_array_append_new(list, alertmanager_alert(condition, level, earlier(began, now), valid, sender));
            } else if (open[level]) {
                struct wall_time ends = earlier(condition->changed_at, now);
                json_array_append_new(list,
                    alertmanager_alert(condition, level, earlier(condition->started_at, ends), ends, sender));
            }
        }
    }
    char *text = list == NULL ? NULL : json_dumps(list, JSON_COMPACT);
    json_decref(list);
    return text;
}

char *alert_message(enum alert_receiver_kind kind, const struct alert_condition *const *conditions, size_t count,
    const struct alert_sender *sender, struct wall_time now)
{
    switch (kind) {
    case ALERT_WEBHOOK: return webhook(conditions, count, sender, now);
    case ALERT_SLACK: return slack(conditions, count, sender->deployment);
    case ALERT_ALERTMANAGER: return alertmanager(conditions, count, sender, now);
    }
    return NULL;
}
