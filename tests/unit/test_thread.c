// SPDX-License-Identifier: Apache-2.0
#include "relay/base/thread.h"

#include <criterion/criterion.h>
#include <semaphore.h>
#include <string.h>

static void *wait_for_it(void *semaphore)
{
    sem_wait(semaphore);
    return NULL;
}

Test(thread, is_joined_when_it_ends_and_not_waited_for_beyond_the_deadline, .timeout = 30)
{
    sem_t semaphore;
    sem_init(&semaphore, 0, 0);
    pthread_t thread;
    cr_assert(thread_start(&thread, "patient", wait_for_it, &semaphore, NULL));
    char name[16];
    pthread_getname_np(thread, name, sizeof(name));
    cr_assert_str_eq(name, "patient");
    const struct clock *clock = clock_system();
    cr_assert_not(thread_join_until(thread, clock, clock_mono(clock)));
    sem_post(&semaphore);
    cr_assert(thread_join_until(thread, clock, mono_add(clock_mono(clock), DURATION_S(20))));
    sem_destroy(&semaphore);
}
