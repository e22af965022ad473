// SPDX-License-Identifier: Apache-2.0
#include "relay/base/log.h"
#include "relay/ops/service_manager.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct clock_fake fake;
static struct status_board *board;
static struct service_manager manager;
static int listener = -1;
static char path[64];
static char heard[4096];

static void drop_log(void *context, enum log_level level, const char *line)
{
    (void)context;
    (void)level;
    (void)line;
}

// Everything that was sent since the last call, datagrams separated by "|".
static const char *hear(void)
{
    size_t filled = 0;
    heard[0] = '\0';
    for (;;) {
        ssize_t got = recv(listener, heard + filled, sizeof(heard) - filled - 2, MSG_DONTWAIT);
        if (got <= 0) {
            return heard;
        }
        filled += (size_t)got;
        heard[filled++] = '|';
        heard[filled] = '\0';
    }
}

static void start(void)
{
    log_set_sink(drop_log, NULL);
    clock_fake_init(&fake, (struct mono_time){DURATION_S(1000).ns}, (struct wall_time){0});
    board = status_board_new(&fake.base, NULL);
    snprintf(path, sizeof(path), "/tmp/relay-notify-%d", (int)getpid());
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    listener = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    setenv("NOTIFY_SOCKET", path, 1);
    setenv("WATCHDOG_USEC", "30000000", 1);
    unsetenv("WATCHDOG_PID");
    status_board_set(board, STATUS_PUBLISH, "default", STATUS_OK, "");
    service_manager_init(&manager, &fake.base, board);
}

static void end(void)
{
    close(listener);
    unlink(path);
    status_board_free(board);
    log_set_sink(NULL, NULL);
}

TestSuite(service_manager, .init = start, .fini = end);

Test(service_manager, tells_nothing_before_it_is_ready_and_then_the_status)
{
    cr_assert_str_eq(hear(), "");
    service_manager_ready(&manager);
    cr_assert_str_eq(hear(), "READY=1|STATUS=ok|");
}

Test(service_manager, beats_at_a_third_of_the_watchdog)
{
    service_manager_ready(&manager);
    hear();
    struct mono_time next = service_manager_beat(&manager);
    cr_assert_str_eq(hear(), "WATCHDOG=1|");
    cr_assert_eq(next.ns, DURATION_S(1005).ns); // the status line comes first
    clock_fake_advance(&fake, DURATION_S(9));
    service_manager_beat(&manager);
    cr_assert_str_eq(hear(), ""); // neither is due, nothing has changed
    clock_fake_advance(&fake, DURATION_S(1));
    service_manager_beat(&manager);
    cr_assert_str_eq(hear(), "WATCHDOG=1|");
}

Test(service_manager, is_silent_while_a_loop_is)
{
    struct heartbeat *heartbeat = status_board_heartbeat(board, "reader", DURATION_S(5), NULL);
    clock_fake_advance(&fake, DURATION_S(6));
    service_manager_beat(&manager);
    cr_assert_null(strstr(hear(), "WATCHDOG"));
    heartbeat_beat(heartbeat);
    clock_fake_advance(&fake, DURATION_S(10));
    heartbeat_beat(heartbeat);
    service_manager_beat(&manager);
    cr_assert_not_null(strstr(hear(), "WATCHDOG=1"));
}

Test(service_manager, tells_a_changed_status_with_its_reason)
{
    service_manager_ready(&manager);
    service_manager_beat(&manager);
    hear();
    status_board_set(board, STATUS_KAFKA, "", STATUS_DOWN, "no broker answers");
    clock_fake_advance(&fake, DURATION_S(5));
    service_manager_beat(&manager);
    cr_assert_str_eq(hear(), "STATUS=down: kafka: no broker answers|");
}

Test(service_manager, a_reload_carries_its_time)
{
    service_manager_ready(&manager);
    cr_assert_str_eq(hear(), "READY=1|STATUS=ok|");
    service_manager_reloading(&manager);
    cr_assert_str_eq(hear(), "RELOADING=1\nMONOTONIC_USEC=1000000000|");
    service_manager_reloaded(&manager);
    cr_assert_str_eq(hear(), "READY=1|");
}

// `run --wait` is not ready yet, so a SIGHUP must not start the units that wait for it.
Test(service_manager, a_reload_does_not_make_ready_what_is_not)
{
    service_manager_reloading(&manager);
    service_manager_reloaded(&manager);
    cr_assert_str_eq(hear(), "");
    service_manager_ready(&manager);
    service_manager_stopping(&manager, (struct mono_time){DURATION_S(1030).ns});
    hear();
    service_manager_reloading(&manager);
    service_manager_reloaded(&manager);
    cr_assert_str_eq(hear(), "");
}

Test(service_manager, stopping_asks_for_the_time_to_drain)
{
    service_manager_stopping(&manager, (struct mono_time){DURATION_S(1030).ns});
    cr_assert_str_eq(hear(), "STOPPING=1\nEXTEND_TIMEOUT_USEC=35000000|STATUS=stopping; ok|");
    clock_fake_advance(&fake, DURATION_S(1));
    struct mono_time next = service_manager_beat(&manager);
    cr_assert_str_eq(hear(), "WATCHDOG=1|EXTEND_TIMEOUT_USEC=34000000|");
    cr_assert_eq(next.ns, DURATION_S(1002).ns);
}

Test(service_manager, does_nothing_without_a_socket)
{
    unsetenv("NOTIFY_SOCKET");
    service_manager_init(&manager, &fake.base, board);
    service_manager_ready(&manager);
    struct mono_time next = service_manager_beat(&manager);
    service_manager_reloading(&manager);
    service_manager_stopping(&manager, next);
    cr_assert_str_eq(hear(), "");
    cr_assert(mono_before((struct mono_time){DURATION_S(1060).ns}, next));
}

Test(service_manager, survives_a_socket_that_nobody_reads)
{
    close(listener);
    unlink(path);
    service_manager_ready(&manager);
    service_manager_beat(&manager);
    service_manager_stopping(&manager, (struct mono_time){0});
    cr_assert(manager.stopping);
}
