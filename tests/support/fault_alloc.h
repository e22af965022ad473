// SPDX-License-Identifier: Apache-2.0
//
// "The n-th allocation fails": malloc and its kin, as our own code calls them, are wrapped by the linker (link with
// fault_alloc_link_args); those of other libraries are not. Also counts what is still allocated, so that an error path
// that leaks is seen. The usual loop, which visits every error path once:
//     for (long n = 0;; n++) {
//         size_t before = fault_alloc_live();
//         fault_alloc_fail_at(n);
//         bool done = work();
//         bool hit = fault_alloc_off();
//         assert(fault_alloc_live() == before && (done || hit));
//         if (!hit) break;
//     }
// Everything belongs to the calling thread: others neither fail nor count.
#ifndef TESTS_SUPPORT_FAULT_ALLOC_H
#define TESTS_SUPPORT_FAULT_ALLOC_H

#include <stdbool.h>
#include <stddef.h>

void fault_alloc_fail_at(long n); // the n-th allocation from now on, counted from 0, returns NULL
bool fault_alloc_off(void);       // disarms; whether the failure happened
// While true nothing fails and nothing counts: for libraries that are linked statically and end the process without
// memory.
void fault_alloc_pause(bool paused);
size_t fault_alloc_live(void); // blocks that this thread allocated and did not free, by wrapped calls

#endif
