// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/insert_lease.h"

#include <criterion/criterion.h>

static const struct mono_time never = {0};
static int woken;
static void wake(void *context)
{
    (void)context;
    woken++;
}

Test(insert_lease, a_commit_grants_from_the_moment_it_was_sent)
{
    struct clock_fake fake;
    struct insert_lease lease;
    struct mono_time end;
    clock_fake_init(&fake, (struct mono_time){1000000000000}, (struct wall_time){0});
    insert_lease_init(&lease, &fake.base, DURATION_S(20), wake, NULL);
    cr_assert_not(insert_lease_hold(&lease, never, DURATION_S(2), NULL, clock_mono(&fake.base), &end),
        "none was granted");
    cr_assert(insert_lease_renewal_due(&lease));
    struct mono_time sent = clock_mono(&fake.base);
    clock_fake_advance(&fake, DURATION_S(3)); // the answer took its time
    insert_lease_grant(&lease, sent);
    cr_assert(insert_lease_hold(&lease, never, DURATION_S(2), NULL, clock_mono(&fake.base), &end));
    cr_assert_eq(end.ns, sent.ns + 20000000000);
    cr_assert_not(insert_lease_renewal_due(&lease));
    clock_fake_advance(&fake, DURATION_S(8));
    cr_assert(insert_lease_renewal_due(&lease), "less than half is left");
    clock_fake_advance(&fake, DURATION_S(8));
    cr_assert_not(insert_lease_hold(&lease, never, DURATION_S(2), NULL, clock_mono(&fake.base), &end),
        "one second is too little");
    insert_lease_finish(&lease);
}

Test(insert_lease, an_earlier_grant_never_shortens_a_later_one_and_a_revocation_ends_both)
{
    struct clock_fake fake;
    struct insert_lease lease;
    clock_fake_init(&fake, (struct mono_time){1000000000000}, (struct wall_time){0});
    insert_lease_init(&lease, &fake.base, DURATION_S(20), wake, NULL);
    insert_lease_grant(&lease, (struct mono_time){1000000000000});
    insert_lease_grant(&lease, (struct mono_time){999000000000});
    cr_assert_eq(insert_lease_until(&lease).ns, 1020000000000);
    insert_lease_revoke(&lease);
    cr_assert_eq(insert_lease_until(&lease).ns, 0);
    insert_lease_finish(&lease);
}

Test(insert_lease, whoever_gives_up_does_not_wait_and_the_committer_was_told)
{
    struct insert_lease lease;
    struct mono_time end;
    atomic_bool given_up = true;
    woken = 0;
    insert_lease_init(&lease, clock_system(), DURATION_S(20), wake, NULL);
    cr_assert_not(insert_lease_hold(&lease, never, DURATION_S(2), &given_up, (struct mono_time){INT64_MAX}, &end));
    given_up = false;
    cr_assert_not(insert_lease_hold(&lease, never, DURATION_S(2), &given_up,
        mono_add(clock_mono(clock_system()), DURATION_MS(1)), &end));
    cr_assert_eq(woken, 1);
    given_up = true;
    insert_lease_grant(&lease, clock_mono(clock_system()));
    cr_assert_not(insert_lease_hold(&lease, never, DURATION_S(2), &given_up, (struct mono_time){INT64_MAX}, &end),
        "a lease that lasts does not revive what was given up");
    insert_lease_finish(&lease);
}

Test(insert_lease, a_grant_counts_only_if_its_commit_was_sent_late_enough)
{
    struct clock_fake fake;
    struct insert_lease lease;
    struct mono_time end;
    clock_fake_init(&fake, (struct mono_time){1000000000000}, (struct wall_time){0});
    insert_lease_init(&lease, &fake.base, DURATION_S(20), wake, NULL);
    insert_lease_grant(&lease, clock_mono(&fake.base));
    clock_fake_advance(&fake, DURATION_S(1));
    struct mono_time since = clock_mono(&fake.base);
    cr_assert(insert_lease_hold(&lease, never, DURATION_S(2), NULL, since, &end));
    cr_assert_not(insert_lease_hold(&lease, since, DURATION_S(2), NULL, since, &end));
    cr_assert_not(insert_lease_renewal_due(&lease), "who does not wait asks for nothing");
    insert_lease_grant(&lease, since);
    cr_assert(insert_lease_hold(&lease, since, DURATION_S(2), NULL, since, &end));
    cr_assert_eq(end.ns, since.ns + 20000000000);
    insert_lease_finish(&lease);
}
