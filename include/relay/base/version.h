// SPDX-License-Identifier: Apache-2.0
//
// What this build calls itself, in --version, logs, metrics, documents and the records of migrations.
#ifndef RELAY_BASE_VERSION_H
#define RELAY_BASE_VERSION_H

// "0.1.0+a1b2c3d4e5f6": the version, and what tells this build from others of it, where that is known.
const char *relay_version(void);

#endif
