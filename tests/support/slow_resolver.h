// SPDX-License-Identifier: Apache-2.0
//
// A resolver that hangs: with it getaddrinfo() of the whole program is this one, for libcurl as well. It answers for
// the host "slow.test" when the test lets it, or after 15 s, and leaves other names to the C library.
#ifndef TESTS_SUPPORT_SLOW_RESOLVER_H
#define TESTS_SUPPORT_SLOW_RESOLVER_H

// asked (may be NULL) is called by the resolver's thread each time.
void slow_resolver_start(void (*asked)(void *context), void *context);
void slow_resolver_hold(const char *name); // from now on this one too, until the end
void slow_resolver_wait_asked(void);       // once for each time
int slow_resolver_hanging(void);           // how many are in it now
// Lets everybody out and waits for that: their threads use this process's memory.
void slow_resolver_end(void);

#endif
