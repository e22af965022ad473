// SPDX-License-Identifier: Apache-2.0
//
// What tells this process from every other one, in logs, in /health and in the names of its sessions.
#ifndef RELAY_BASE_INSTANCE_H
#define RELAY_BASE_INSTANCE_H

// 32 random lower-case hex digits and a NUL.
void instance_make(char instance[33]);

#endif
