// SPDX-License-Identifier: Apache-2.0
#include "relay/base/circuit_breaker.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>

// The two calls of metrics.h that a breaker makes, recorded: `series` is a recorder.
struct recorder {
    double value;
    uint64_t count;
};
void metric_set(struct metric_series *series, double value)
{
    ((struct recorder *)series)->value = value;
}
void metric_add(struct metric_series *series, uint64_t by)
{
    ((struct recorder *)series)->count += by;
}

static struct clock_fake now;
static struct recorder gauge, trips;
static char told[256];

static void observe(void *context, enum breaker_state from, enum breaker_state to)
{
    size_t used = strlen(told);
    snprintf(told + used, sizeof(told) - used, "%s>%s ", breaker_state_name(from), breaker_state_name(to));
    // Calling back must not deadlock.
    (void)breaker_state_of(*(struct circuit_breaker **)context);
}

static struct circuit_breaker *breaker;

static void setup(void)
{
    clock_fake_init(&now, (struct mono_time){0}, (struct wall_time){0});
    told[0] = '\0';
    gauge.value = -1;
    breaker = breaker_new((struct breaker_options){.failures = 5, .open = DURATION_S(32), .successes = 2}, &now.base,
        (struct metric_series *)&gauge, (struct metric_series *)&trips, observe, &breaker, NULL);
    cr_assert_not_null(breaker);
    cr_assert_eq(gauge.value, 0);
}

static void teardown(void)
{
    breaker_free(breaker);
}

static void fail(int times)
{
    for (int i = 0; i < times; i++) {
        cr_assert(breaker_allow(breaker));
        breaker_failure(breaker, "refused");
    }
}

TestSuite(circuit_breaker, .init = setup, .fini = teardown);

Test(circuit_breaker, opens_after_five_failures_in_a_row)
{
    fail(4);
    cr_assert_eq(breaker_state_of(breaker), BREAKER_CLOSED);
    breaker_success(breaker);
    fail(4);
    cr_assert_eq(breaker_state_of(breaker), BREAKER_CLOSED);
    fail(1);
    cr_assert_eq(breaker_state_of(breaker), BREAKER_OPEN);
    cr_assert_eq(gauge.value, 2);
    cr_assert_eq(trips.count, 1);
    cr_assert_not(breaker_allow(breaker));
    cr_assert_eq(breaker_next_probe(breaker).ns, DURATION_S(2).ns);
    cr_assert_str_eq(told, "closed>open ");
}

Test(circuit_breaker, lets_one_probe_at_a_time_through_and_closes_after_two)
{
    fail(5);
    clock_fake_advance(&now, DURATION_MS(1999));
    cr_assert_not(breaker_allow(breaker));
    clock_fake_advance(&now, DURATION_MS(1));
    cr_assert(breaker_allow(breaker));
    cr_assert_eq(gauge.value, 1);
    cr_assert_not(breaker_allow(breaker), "a second probe while one is out");
    breaker_success(breaker);
    cr_assert_eq(breaker_state_of(breaker), BREAKER_HALF_OPEN);
    cr_assert_eq(breaker_next_probe(breaker).ns, clock_mono(&now.base).ns);
    cr_assert(breaker_allow(breaker));
    breaker_success(breaker);
    cr_assert_eq(breaker_state_of(breaker), BREAKER_CLOSED);
    cr_assert_eq(gauge.value, 0);
    cr_assert_str_eq(told, "closed>open open>half_open half_open>closed ");
    fail(4);
    cr_assert_eq(breaker_state_of(breaker), BREAKER_CLOSED, "the count starts again");
}

Test(circuit_breaker, a_failed_probe_opens_it_again_and_for_twice_as_long)
{
    fail(5);
    clock_fake_advance(&now, DURATION_S(40));
    cr_assert(breaker_allow(breaker));
    breaker_success(breaker);
    cr_assert(breaker_allow(breaker));
    breaker_failure(breaker, "refused");
    cr_assert_eq(breaker_state_of(breaker), BREAKER_OPEN);
    cr_assert_eq(trips.count, 2);
    cr_assert_eq(breaker_next_probe(breaker).ns, DURATION_S(44).ns);
    clock_fake_advance(&now, DURATION_S(4));
    cr_assert(breaker_allow(breaker));
    breaker_success(breaker);
    cr_assert_eq(breaker_state_of(breaker), BREAKER_HALF_OPEN, "successes before the failure do not count");
}

static int64_t seconds_until_probe(void)
{
    return (breaker_next_probe(breaker).ns - clock_mono(&now.base).ns) / DURATION_S(1).ns;
}

Test(circuit_breaker, a_server_that_stays_away_is_asked_ever_less_and_at_least_once_in_open)
{
    fail(5);
    for (size_t i = 0; i < 7; i++) {
        static const int64_t expected[] = {2, 4, 8, 16, 32, 32, 32};
        cr_assert_eq(seconds_until_probe(), expected[i], "opening %zu: %" PRId64 " s", i, seconds_until_probe());
        clock_fake_advance(&now, DURATION_S(expected[i]));
        fail(1);
    }
    clock_fake_advance(&now, DURATION_S(32));
    for (int i = 0; i < 2; i++) {
        cr_assert(breaker_allow(breaker));
        breaker_success(breaker);
    }
    fail(5);
    cr_assert_eq(seconds_until_probe(), 2, "once closed it begins anew");
}

Test(circuit_breaker, late_reports_while_open_change_nothing)
{
    fail(5);
    breaker_failure(breaker, "refused");
    breaker_success(breaker);
    breaker_success(breaker);
    cr_assert_eq(breaker_state_of(breaker), BREAKER_OPEN);
    cr_assert_eq(trips.count, 1);
    cr_assert_eq(breaker_next_probe(breaker).ns, DURATION_S(2).ns);
}

Test(circuit_breaker, a_cancelled_probe_makes_room_and_a_lost_one_is_given_up)
{
    fail(5);
    clock_fake_advance(&now, DURATION_S(2));
    cr_assert(breaker_allow(breaker));
    breaker_cancel(breaker);
    cr_assert(breaker_allow(breaker));
    cr_assert_not(breaker_allow(breaker));
    clock_fake_advance(&now, DURATION_S(32));
    cr_assert(breaker_allow(breaker), "the probe that never reported");
    cr_assert_not(breaker_allow(breaker));
}

Test(circuit_breaker, check_says_what_keeps_it_open_in_words_that_stay)
{
    struct relay_error error;
    fail(4);
    cr_assert(breaker_allow(breaker));
    breaker_failure(breaker, "host:9092: Connection refused");
    cr_assert_not(breaker_check(breaker, RELAY_SERVER_KAFKA, "kafka", &error));
    cr_assert_eq(error.code, RELAY_ERROR_BREAKER_OPEN);
    cr_assert_eq(error.class, RELAY_CLASS_RETRIABLE);
    cr_assert_str_eq(error.text, "host:9092: Connection refused; the circuit breaker of kafka is open");
    clock_fake_advance(&now, DURATION_S(1));
    cr_assert_not(breaker_check(breaker, RELAY_SERVER_KAFKA, "kafka", &error));
    cr_assert_str_eq(error.text, "host:9092: Connection refused; the circuit breaker of kafka is open");
    clock_fake_advance(&now, DURATION_S(1));
    cr_assert(breaker_check(breaker, RELAY_SERVER_KAFKA, "kafka", &error));
}

Test(circuit_breaker, a_failure_without_words_is_none)
{
    struct relay_error error;
    for (int i = 0; i < 5; i++) {
        breaker_failure(breaker, NULL);
    }
    cr_assert_not(breaker_refuse(breaker, RELAY_SERVER_KAFKA, "kafka", &error));
    cr_assert_str_eq(error.text, "the circuit breaker of kafka is open");
}

Test(circuit_breaker, new_limits_hold_from_the_next_report_on)
{
    fail(2);
    breaker_set_options(breaker, (struct breaker_options){.failures = 3, .open = DURATION_S(1), .successes = 1});
    fail(1);
    cr_assert_eq(breaker_next_probe(breaker).ns, DURATION_S(1).ns / 16);
    clock_fake_advance(&now, DURATION_MS(63));
    cr_assert(breaker_allow(breaker));
    breaker_success(breaker);
    cr_assert_eq(breaker_state_of(breaker), BREAKER_CLOSED);
}

static void *probe(void *allowed)
{
    for (int i = 0; i < 1000; i++) {
        if (breaker_allow(breaker)) {
            __atomic_add_fetch((int *)allowed, 1, __ATOMIC_SEQ_CST);
        }
    }
    return NULL;
}

Test(circuit_breaker, of_many_threads_one_gets_the_probe)
{
    pthread_t threads[4];
    int allowed = 0;
    fail(5);
    clock_fake_advance(&now, DURATION_S(30));
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(pthread_create(&threads[i], NULL, probe, &allowed), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    cr_assert_eq(allowed, 1);
}
