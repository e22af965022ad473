// SPDX-License-Identifier: Apache-2.0
//
// Whose certificates an HTTPS request believes: the same answer for ClickHouse, the alert receivers and `check`. Names
// and chains are always verified. Stateless; the thread of the handle.
#ifndef RELAY_BASE_TLS_TRUST_H
#define RELAY_BASE_TLS_TRUST_H

#include <curl/curl.h>

// ca_file: a PEM file of authorities that are believed in place of the system's; "" or NULL: the system's. Copied by
// libcurl; read at each new connection, so a file that was replaced counts within a minute.
void tls_trust(CURL *easy, const char *ca_file);
// What a failure that has to do with certificates means for the operator, who has this key; "" for other codes.
const char *tls_trust_advice(CURLcode code);

#endif
