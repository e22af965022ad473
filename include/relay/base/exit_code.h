// SPDX-License-Identifier: Apache-2.0
//
// Exit codes of the process besides 0 and 1; those of sysexits.h where they have one.
#ifndef RELAY_BASE_EXIT_CODE_H
#define RELAY_BASE_EXIT_CODE_H

#define RELAY_EXIT_USAGE       2
#define RELAY_EXIT_STUCK       70 // EX_SOFTWARE: a part of the daemon hung; a supervisor should start it again
#define RELAY_EXIT_UNREACHABLE 75 // EX_TEMPFAIL
#define RELAY_EXIT_CONFIG      78 // EX_CONFIG
// Or-ed to a code: end the process at once, without exit handlers (a thread hangs and may use what they free).
#define RELAY_EXIT_AT_ONCE 0x100

#endif
