// SPDX-License-Identifier: Apache-2.0
//
// See command_signals.h. The thread waits in sigwait(); finish wakes it by a signal sent to it alone.
#include "relay/cli/command_signals.h"

#include "relay/base/clock.h"

#include <string.h>

// What is under way gets this long to end by itself after the first signal.
#define GRACE DURATION_S(2)

static void *take_signals(void *context)
{
    struct command_signals *signals = context;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    for (;;) {
        int number;
        if (sigwait(&set, &number) != 0) {
            continue;
        }
        if (atomic_load(&signals->ending)) {
            return NULL;
        }
        if (stop_raised(signals->stop)) {
            signal(number, SIG_DFL);
            sigset_t only;
            sigemptyset(&only);
            sigaddset(&only, number);
            raise(number);
            pthread_sigmask(SIG_UNBLOCK, &only, NULL); // ends the process by the signal, as the shell expects
        }
        stop_raise(signals->stop, mono_add(clock_mono(clock_system()), GRACE));
    }
}

bool command_signals_start(struct command_signals *signals, struct stop *stop, struct relay_error *error)
{
    *signals = (struct command_signals){.stop = stop};
    signal(SIGPIPE, SIG_IGN);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, &signals->before);
    int failed = pthread_create(&signals->thread, NULL, take_signals, signals);
    if (failed != 0) {
        pthread_sigmask(SIG_SETMASK, &signals->before, NULL);
        return error_set(error, RELAY_ERROR_SYSTEM, "no thread for signals: %s", strerror(failed));
    }
    return true;
}

void command_signals_finish(struct command_signals *signals)
{
    atomic_store(&signals->ending, true);
    pthread_kill(signals->thread, SIGINT);
    pthread_join(signals->thread, NULL);
    pthread_sigmask(SIG_SETMASK, &signals->before, NULL);
}
