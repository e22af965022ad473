// SPDX-License-Identifier: Apache-2.0
//
// Preloaded: the FAILING_THREAD-th thread that the process's first one starts cannot be had, as when its user has as
// many as may be.
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument)
{
    static long started; // by the first thread alone
    const char *failing = getenv("FAILING_THREAD");
    if (failing != NULL && gettid() == getpid() && ++started == strtol(failing, NULL, 10)) {
        return EAGAIN;
    }
    int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    *(void **)&create = dlsym(RTLD_NEXT, "pthread_create");
    return create(thread, attributes, run, argument);
}
