// SPDX-License-Identifier: Apache-2.0
//
// [kafka]: what librdkafka takes is passed on, each value tried on a configuration that is thrown away, so that a wrong
// one is found here with all the others. Properties that belong to the protocols are refused by name.
#include "relay/config/config_kafka.h"

#include <librdkafka/rdkafka.h>
#include <string.h>

static const struct config_kafka_refusal refused[] = {
    {"group.id", "the consumer group has a key of its own; set [insert] group_id"},
    {"group.instance.id", "replicas with the same configuration would fence each other; leave it out"},
    {"group.protocol", "the insert stage relies on the classic protocol; leave it out"},
    {"group.remote.assignor", "the insert stage relies on the classic protocol; leave it out"},
    {"enable.auto.commit", "offsets are committed only up to what ClickHouse has stored; leave it out"},
    {"enable.auto.offset.store", "offsets are committed only up to what ClickHouse has stored; leave it out"},
    {"auto.commit.*", "offsets are committed only up to what ClickHouse has stored; leave it out"},
    {"offset.store.*", "offsets are committed only up to what ClickHouse has stored; leave it out"},
    {"isolation.level",
        "events of aborted transactions must not be inserted, so it is always read_committed; leave it out"},
    {"auto.offset.reset", "where a partition is resumed is found in the ClickHouse table itself; leave it out"},
    {"partition.assignment.strategy", "the insert stage relies on cooperative-sticky; leave it out"},
    {"enable.partition.eof", "is set by the insert stage; leave it out"},
    {"check.crcs", "librdkafka passes over a record set that fails the check, and loses its place; leave it out"},
    {"queued.max.messages.kbytes", "is part of the memory limit of the insert stage; set [insert] memory_limit"},
    {"transactional.id", "is derived from the outbox's identity; set [publish] transactional_id for its prefix"},
    {"enable.idempotence", "is always on, as order depends on it; leave it out"},
    {"acks", "is always all, as a row leaves the outbox only when every in-sync replica has its event; leave it out"},
    {"request.required.acks",
        "is always all, as a row leaves the outbox only when every in-sync replica has its event; leave it out"},
    {"delivery.report.only.error", "each event's delivery is waited for; leave it out"},
    {"socket.max.fails", "a request that fails closes its connection, by which a lost answer is seen; leave it out"},
};

const struct config_kafka_refusal *config_kafka_refused(size_t i)
{
    return i < sizeof(refused) / sizeof(refused[0]) ? &refused[i] : NULL;
}

static const char *why_refused(const char *name)
{
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        size_t length = strlen(refused[i].name);
        bool all = refused[i].name[length - 1] == '*';
        if (all ? strncmp(name, refused[i].name, length - 1) == 0 : strcmp(name, refused[i].name) == 0) {
            return refused[i].why;
        }
    }
    return NULL;
}

static bool take(const struct config_source *source, const struct config_setting *setting, rd_kafka_conf_t *scratch)
{
    const char *why = why_refused(setting->key);
    why = why != NULL ? why : why_refused(kafka_properties_meant(source->kafka, setting->key));
    if (why != NULL) {
        config_source_mistake(source, setting, "cannot be set: %s", why);
        return false;
    }
    if (setting->in_file && setting->value[0] == '\0') {
        return false; // was reported
    }
    char problem[256] = "";
    if (rd_kafka_conf_set(scratch, setting->key, setting->value, problem, sizeof(problem)) == RD_KAFKA_CONF_OK) {
        return true;
    }
    // librdkafka's text quotes the value.
    config_source_mistake(source, setting, "%s",
        kafka_property_is_secret(setting->key) ? "librdkafka refuses the value" : problem);
    return false;
}

const char *config_kafka_meant(const struct config_pair *pair)
{
    return pair->meant == NULL ? pair->name : pair->meant;
}

const struct config_pair *config_kafka_given(const struct config *config, const char *name)
{
    const struct config_pair *given = NULL;
    for (size_t i = 0; i < config->kafka_count; i++) {
        const struct config_pair *pair = &config->kafka[i];
        if (strcmp(config_kafka_meant(pair), name) == 0) {
            given = pair;
        }
    }
    return given;
}

void config_build_kafka(const struct config_source *source, struct config *config)
{
    size_t count = 0;
    for (size_t i = 0; i < source->setting_count; i++) {
        count += source->settings[i].section == CONFIG_SECTION_KAFKA;
    }
    if (count == 0) {
        return;
    }
    config->kafka = config_memory_take(config->memory, count * sizeof(*config->kafka));
    if (config->kafka == NULL) {
        return;
    }
    rd_kafka_conf_t *scratch = rd_kafka_conf_new();
    for (size_t i = 0; i < source->setting_count; i++) {
        const struct config_setting *setting = &source->settings[i];
        if (setting->section == CONFIG_SECTION_KAFKA && take(source, setting, scratch)) {
            config->kafka[config->kafka_count++] = (struct config_pair){
                .name = config_memory_text(config->memory, setting->key),
                .value = config_memory_text(config->memory, setting->value),
                .meant = config_memory_text(config->memory, kafka_properties_meant(source->kafka, setting->key))};
        }
    }
    rd_kafka_conf_destroy(scratch);
}
