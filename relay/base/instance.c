// SPDX-License-Identifier: Apache-2.0
#include "relay/base/instance.h"

#include "relay/base/clock.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

void instance_make(char instance[33])
{
    unsigned char bytes[16];
    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes)) {
        // Only before the kernel's pool is filled, and then for an interrupted call: it need not be secret, only our
        // own.
        struct mono_time now = clock_mono(clock_system());
        pid_t pid = getpid();
        memset(bytes, 0, sizeof(bytes));
        memcpy(bytes, &now, sizeof(now));
        memcpy(bytes + sizeof(now), &pid, sizeof(pid));
    }
    for (int i = 0; i < 16; i++) {
        snprintf(instance + 2 * i, 3, "%02x", bytes[i]);
    }
}
