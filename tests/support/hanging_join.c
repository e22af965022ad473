// SPDX-License-Identifier: Apache-2.0
//
// Preloaded: once the file HANGING_JOIN is there, the next wait for a thread of librdkafka never ends, as when it does
// not let go of a client that is destroyed (librdkafka takes C11's threads; the relay does not).
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <threads.h>
#include <unistd.h>

int thrd_join(thrd_t thread, int *result)
{
    static atomic_int calls;
    const char *file = getenv("HANGING_JOIN");
    if (file != NULL && access(file, F_OK) == 0 && atomic_fetch_add(&calls, 1) == 0) {
        for (;;) {
            pause();
        }
    }
    int (*join)(thrd_t, int *);
    *(void **)&join = dlsym(RTLD_NEXT, "thrd_join");
    return join(thread, result);
}
