// SPDX-License-Identifier: Apache-2.0
//
// SHA-256 (FIPS 180-4) of bytes in memory, as `sha256sum` prints it: tells an operator with his own tools whether a
// schema file is the one that was applied. Not for passwords and keys. libcrypto computes it. Any thread.
#ifndef RELAY_BASE_SHA256_H
#define RELAY_BASE_SHA256_H

#include <stdbool.h>
#include <stddef.h>

#define SHA256_TEXT 65

// 64 lower-case hex digits and a NUL. false, and text "": out of memory, or a libcrypto without SHA-256.
bool sha256_text(const void *bytes, size_t length, char text[SHA256_TEXT]);

#endif
