// SPDX-License-Identifier: Apache-2.0
//
// Whose certificates an HTTPS request believes, and which one it shows: the same answer for ClickHouse, the alert
// receivers and `check`. Names and chains are always verified. Stateless; the thread of the handle.
#ifndef RELAY_BASE_TLS_TRUST_H
#define RELAY_BASE_TLS_TRUST_H

#include <curl/curl.h>

// Names of files in PEM; "" or NULL: none.
struct tls_files {
    const char *ca_file;   // authorities that are believed in place of the system's
    const char *cert_file; // the certificate for a server that asks for one, and those between it and its authority
    const char *key_file;  // its private key, without a passphrase
};

// The names are copied by libcurl; the files are read at each new connection, so one that was replaced counts within a
// minute.
void tls_trust(CURL *easy, const struct tls_files *files);
// What the failed request of a handle means for the operator, who has these keys, if it has to do with certificates; ""
// otherwise. detail: libcurl's error buffer.
const char *tls_trust_advice(CURL *easy, CURLcode code, const char *detail);

#endif
