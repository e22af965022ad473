// SPDX-License-Identifier: Apache-2.0
//
// Every allocation of the loader fails once: nothing leaks, nothing is half loaded, the error says so.
#include "fault_alloc.h"
#include "relay/config/config.h"

#include <criterion/criterion.h>
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

rd_kafka_conf_t *__real_rd_kafka_conf_new(void);
rd_kafka_conf_t *__wrap_rd_kafka_conf_new(void);
rd_kafka_conf_res_t __real_rd_kafka_conf_set(rd_kafka_conf_t *conf, const char *name, const char *value, char *why,
    size_t room);
rd_kafka_conf_res_t __wrap_rd_kafka_conf_set(rd_kafka_conf_t *conf, const char *name, const char *value, char *why,
    size_t room);
void __real_rd_kafka_conf_destroy(rd_kafka_conf_t *conf);
void __wrap_rd_kafka_conf_destroy(rd_kafka_conf_t *conf);
void __real_rd_kafka_conf_properties_show(FILE *out);
void __wrap_rd_kafka_conf_properties_show(FILE *out);

rd_kafka_conf_t *__wrap_rd_kafka_conf_new(void)
{
    fault_alloc_pause(true);
    rd_kafka_conf_t *conf = __real_rd_kafka_conf_new();
    fault_alloc_pause(false);
    return conf;
}

rd_kafka_conf_res_t __wrap_rd_kafka_conf_set(rd_kafka_conf_t *conf, const char *name, const char *value, char *why,
    size_t room)
{
    fault_alloc_pause(true);
    rd_kafka_conf_res_t result = __real_rd_kafka_conf_set(conf, name, value, why, room);
    fault_alloc_pause(false);
    return result;
}

void __wrap_rd_kafka_conf_destroy(rd_kafka_conf_t *conf)
{
    fault_alloc_pause(true);
    __real_rd_kafka_conf_destroy(conf);
    fault_alloc_pause(false);
}

void __wrap_rd_kafka_conf_properties_show(FILE *out)
{
    fault_alloc_pause(true);
    __real_rd_kafka_conf_properties_show(out);
    fault_alloc_pause(false);
}

static void visit(const char *text, bool good)
{
    char path[] = "/tmp/relay-config-XXXXXX";
    int descriptor = mkstemp(path);
    cr_assert(descriptor >= 0 && write(descriptor, text, strlen(text)) == (ssize_t)strlen(text));
    close(descriptor);
    long n = 0;
    // librdkafka's table is printed into memory that the C library allocates, uncounted, and we free: once the loader
    // gets so far, one more block is freed than was allocated, in every run.
    ptrdiff_t balance = 0;
    for (bool hit = true; hit; n++) {
        struct relay_error error = {0};
        char *mistakes = NULL;
        size_t before = fault_alloc_live();
        fault_alloc_fail_at(n);
        struct config *config = config_load(path, &mistakes, &error);
        hit = fault_alloc_off();
        bool loaded = config != NULL;
        config_free(config);
        ptrdiff_t left = (ptrdiff_t)fault_alloc_live() - (ptrdiff_t)before;
        cr_assert(left == balance || (left == -1 && n < 10), "%td blocks left after failure %ld", left, n);
        balance = left;
        cr_assert(!hit || !loaded, "loaded although allocation %ld failed", n);
        cr_assert(hit || loaded == good, "%s", error.text);
        cr_assert(!hit || error.code == RELAY_ERROR_NO_MEMORY, "%ld: %s", n, error.text);
        cr_assert(!hit || mistakes == NULL);
        free(mistakes); // made by open_memstream, which is not wrapped
    }
    cr_assert_gt(n, 50, "the loader allocates");
    unlink(path);
}

Test(fault_config, loading)
{
    setenv("OUTBOX_RELAY_OUTBOX_B_TABLE", "s.b", 1);
    visit("[postgres]\ndsn = host=db\n[kafka]\nbootstrap.servers = k\n[clickhouse]\nurl = "
          "http://c\n[outbox]\nadditional = a:header\n[outbox b]\n"
          "[route r]\ntopics = a, b\ntable = t\nx = $.x: a=1 *=2\ncolumns = y = 'z'\n",
        true);
}

Test(fault_config, mistakes)
{
    visit("[postgres]\ndsn = host=db\ndsm = 3\n[weather]\n[outbox]\nbatch_rows = x\n[kafka]\nacks = 1\n[route r]\nx = "
          "y\ncolumns = z\n",
        false);
}
