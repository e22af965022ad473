// SPDX-License-Identifier: Apache-2.0
#include "relay/base/sha256.h"

#include <openssl/evp.h>
#include <stdio.h>

bool sha256_text(const void *bytes, size_t length, char text[SHA256_TEXT])
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    text[0] = '\0';
    if (EVP_Digest(bytes, length, digest, &size, EVP_sha256(), NULL) != 1) {
        return false;
    }
    for (unsigned int i = 0; i < size; i++) {
        snprintf(text + 2 * i, SHA256_TEXT - 2 * i, "%02x", digest[i]);
    }
    return true;
}
