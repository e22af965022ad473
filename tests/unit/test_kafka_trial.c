// SPDX-License-Identifier: Apache-2.0
//
// What the trial of [kafka] finds before a stage is started: settings that librdkafka takes one by one, and makes no
// client of.
#include "config_fixture.h"

#include "relay/config/context.h"
#include "relay/insert/insert_stage.h"
#include "relay/publish/publish_stage.h"

typedef bool trial(const struct relay_context *context, struct relay_error *error);

// Behind [kafka], so that `text` may go on there.
static bool passes(trial *try, const char *text)
{
    char whole[1024];
    snprintf(whole, sizeof(whole),
        "[postgres]\ndsn = host=db\n[clickhouse]\nurl = http://c:8123\n[kafka]\nbootstrap.servers = k:9092\n%s\n",
        text);
    struct config *config = load_good(whole);
    struct relay_context context = {.config = config, .clock = clock_system(), .instance = "0123456789abcdef"};
    error_clear(&error);
    bool done = try(&context, &error);
    config_free(config);
    cr_assert(done == (error.code == RELAY_ERROR_NONE), "%s: %s", text, error.text);
    return done;
}

static void refuses(trial *try, const char *text, const char *words)
{
    cr_assert_not(passes(try, text), "%s", text);
    cr_assert_eq(error.code, RELAY_ERROR_CONFIG);
    cr_assert(strstr(error.text, "[kafka]") != NULL && strstr(error.text, words) != NULL, "%s: %s", text, error.text);
}

Test(kafka_trial, what_works_passes)
{
    static const char *const texts[] = {
        "",
        "socket.timeout.ms = 60000\ntransaction.timeout.ms = 90000",
        "socket.timeout.ms = 60000\n[publish]\nguarantee = at_least_once", // the limit is that of transactions
        "max.poll.interval.ms = 100000",
        "socket.timeout.ms = 200000\n[publish]\nguarantee = at_least_once",
        "max.in.flight = 5\nretries = 1",
        "[insert]\ndead_letter_topic = dead",
        "[outbox a]\nbatch_rows = 10\n[outbox b]\ntable = public.b\nbatch_rows = 100",
        "debug = all",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        cr_assert(passes(publish_stage_try, texts[i]), "%s: %s", texts[i], error.text);
        cr_assert(passes(insert_stage_try, texts[i]), "%s: %s", texts[i], error.text);
    }
}

Test(kafka_trial, what_no_producer_can_be_made_of_is_refused)
{
    refuses(publish_stage_try, "socket.timeout.ms = 60000", "`socket.timeout.ms`");
    refuses(publish_stage_try, "transaction.timeout.ms = 5000", "`transaction.timeout.ms`");
    refuses(publish_stage_try, "retries = 0", "`retries`");
    refuses(publish_stage_try, "max.in.flight.requests.per.connection = 10", "`max.in.flight`");
    refuses(publish_stage_try, "message.timeout.ms = 100\nlinger.ms = 200", "`linger.ms`");
    refuses(publish_stage_try, "queuing.strategy = lifo", "`queuing.strategy`");
    // Of several outboxes each is tried that is not like one before it.
    refuses(publish_stage_try,
        "socket.timeout.ms = 60000\n[publish]\nguarantee = at_least_once\n[outbox a]\n[outbox b]\n"
        "table = public.b\nguarantee = exactly_once",
        "`socket.timeout.ms`");
}

Test(kafka_trial, what_no_consumer_can_be_made_of_is_refused)
{
    static const char *const texts[] = {"max.poll.interval.ms = 10000", "session.timeout.ms = 400000"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        refuses(insert_stage_try, texts[i], "`max.poll.interval.ms`");
        refuses(publish_stage_try, texts[i], "`max.poll.interval.ms`"); // it reads its receipts
    }
    cr_assert(passes(publish_stage_try, "max.poll.interval.ms = 10000\n[publish]\nguarantee = at_least_once"), "%s",
        error.text);
}

// What librdkafka allows, and giving partitions back may outlast.
Test(kafka_trial, a_member_has_the_time_to_give_partitions_back)
{
    static const char *const texts[] = {"max.poll.interval.ms = 99999",
        "session.timeout.ms = 60000\nmax.poll.interval.ms = 120000",
        "max.poll.interval.ms = 300000\nsocket.timeout.ms = 200000"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        refuses(insert_stage_try, texts[i], "`max.poll.interval.ms`");
    }
    cr_assert(passes(publish_stage_try, texts[0]), "it is no member: %s", error.text);
}

Test(kafka_trial, copies_of_dead_letters_need_a_producer)
{
    cr_assert(passes(insert_stage_try, "retries = 0"), "%s", error.text);
    refuses(insert_stage_try, "retries = 0\n[insert]\ndead_letter_topic = dead", "`retries`");
}

Test(kafka_trial, a_stage_that_is_switched_off_is_not_tried)
{
    cr_assert(passes(publish_stage_try, "retries = 0\n[publish]\nenabled = false"), "%s", error.text);
    cr_assert(passes(insert_stage_try, "max.poll.interval.ms = 10000\n[insert]\nenabled = false"), "%s", error.text);
}

Test(kafka_trial, files_that_may_come_later_are_not_asked_for)
{
    static const char *const texts[] = {
        "security.protocol = ssl\nssl.ca.location = /nowhere/ca.pem\nssl.key.location = /nowhere/key.pem",
        "security.protocol = sasl_ssl\nssl.ca.location = /nowhere/ca.pem\nsasl.mechanism = SCRAM-SHA-512\n"
        "sasl.username = u\nsasl.password = p",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        cr_assert(passes(publish_stage_try, texts[i]), "%s: %s", texts[i], error.text);
        cr_assert(passes(insert_stage_try, texts[i]), "%s: %s", texts[i], error.text);
    }
    refuses(publish_stage_try, "security.protocol = ssl\nssl.ca.location = /nowhere/ca.pem\nretries = 0", "`retries`");
}
