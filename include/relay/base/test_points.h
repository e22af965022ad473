// SPDX-License-Identifier: Apache-2.0
//
// Hooks of the torture bench, compiled in by -Dtest_hooks=true only: named crash points in both protocols and switches
// that remove one safeguard, so that the bench can show that it sees what the safeguard prevents. In other builds
// TEST_POINT() is nothing and safeguard_active() is the constant true, so nothing of this is in a release.
//   OUTBOX_RELAY_CRASH_AT=publish.after_delivery:3  the process kills itself (SIGKILL) the third time it passes there
//   OUTBOX_RELAY_DISABLE_SAFEGUARD=read_back        names of RELAY_SAFEGUARDS, separated by commas
// `outbox-relay test-points` prints the names, in the order of the protocols. Any thread.
#ifndef RELAY_BASE_TEST_POINTS_H
#define RELAY_BASE_TEST_POINTS_H

#include <stdbool.h>

// X(ID, name): in the order in which a batch passes them; each name is passed in exactly one place.
#define RELAY_TEST_POINTS(X)                                                                                           \
    X(PUBLISH_AFTER_LOCKS, "publish.after_locks")                                                                      \
    X(PUBLISH_AFTER_INIT, "publish.after_init")                                                                        \
    X(PUBLISH_AFTER_RECOVERY_READ, "publish.after_recovery_read")                                                      \
    X(PUBLISH_AFTER_RECOVERY_DELETE, "publish.after_recovery_delete")                                                  \
    X(PUBLISH_AFTER_RECOVERY_COMMIT, "publish.after_recovery_commit")                                                  \
    X(PUBLISH_AFTER_TAKE, "publish.after_take")                                                                        \
    X(PUBLISH_AFTER_SEND, "publish.after_send")                                                                        \
    X(PUBLISH_BETWEEN_BATCHES, "publish.between_batches")                                                              \
    X(PUBLISH_AFTER_DELIVERY, "publish.after_delivery")                                                                \
    X(PUBLISH_AFTER_NUMBER, "publish.after_number")                                                                    \
    X(PUBLISH_AFTER_KAFKA_COMMIT, "publish.after_kafka_commit")                                                        \
    X(PUBLISH_AFTER_COMMIT, "publish.after_commit")                                                                    \
    X(INSERT_AFTER_ASSIGN, "insert.after_assign")                                                                      \
    X(INSERT_BEFORE_VIEW_REPEAT, "insert.before_view_repeat")                                                          \
    X(INSERT_AFTER_VIEW_REPEAT, "insert.after_view_repeat")                                                            \
    X(INSERT_AFTER_READ_BACK, "insert.after_read_back")                                                                \
    X(INSERT_AFTER_NOTE, "insert.after_note")                                                                          \
    X(INSERT_BEFORE_INSERT, "insert.before_insert")                                                                    \
    X(INSERT_AFTER_ROWS, "insert.after_rows")                                                                          \
    X(INSERT_AFTER_COPIES, "insert.after_copies")                                                                      \
    X(INSERT_AFTER_INSERT, "insert.after_insert")                                                                      \
    X(INSERT_BEFORE_COMMIT, "insert.before_commit")                                                                    \
    X(INSERT_AFTER_COMMIT, "insert.after_commit")

// X(ID, name)
#define RELAY_SAFEGUARDS(X)                                                                                            \
    X(RECEIPTS, "receipts")                 /* recovery reads and acts on the receipts */                              \
    X(FENCING, "fencing")                   /* ownership is proved after init_transactions; a fenced producer stops */ \
    X(HOLE_SWEEP, "hole_sweep")             /* rows that commit below the watermark are looked for */                  \
    X(LEASE, "lease")                       /* an INSERT carries a deadline that the server enforces */                \
    X(READ_BACK, "read_back")               /* the table is asked which offsets it has */                              \
    X(MONOTONIC_COMMIT, "monotonic_commit") /* committed offsets never go back or past a hole */                       \
    X(VIEW_NOTES, "view_notes")             /* an INSERT that lost its sender is repeated for the views */

enum test_point {
#define X(id, name) TEST_POINT_##id,
    RELAY_TEST_POINTS(X)
#undef X
        TEST_POINT_COUNT
};
enum safeguard {
#define X(id, name) SAFEGUARD_##id,
    RELAY_SAFEGUARDS(X)
#undef X
        SAFEGUARD_COUNT
};

#ifdef RELAY_TEST_HOOKS
void test_point_pass(enum test_point point);
bool safeguard_active(enum safeguard safeguard);
void test_points_print(void); // to stdout, one name a line
#define TEST_POINT(id) test_point_pass(TEST_POINT_##id)
#else
#define TEST_POINT(id) ((void)0)
static inline bool safeguard_active(enum safeguard safeguard)
{
    (void)safeguard;
    return true;
}
#endif

#endif
