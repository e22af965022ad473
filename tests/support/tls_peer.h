// SPDX-License-Identifier: Apache-2.0
//
// A ClickHouse behind TLS on 127.0.0.1, for tests of what libcurl does with a body that TLS has not taken whole. The
// send buffers of this process's connections are small, as those of a new connection over a network are. Aborts on its
// own mistakes (it is a test's tool).
#ifndef TESTS_SUPPORT_TLS_PEER_H
#define TESTS_SUPPORT_TLS_PEER_H

#include <stddef.h>

struct tls_peer;

struct tls_peer *tls_peer_start(void);
void tls_peer_stop(struct tls_peer *peer);
const char *tls_peer_url(const struct tls_peer *peer);
const char *tls_peer_ca_file(const struct tls_peer *peer);
// From now on resets each connection whose client shows no certificate, once the client takes the handshake for done.
void tls_peer_refuse_strangers(struct tls_peer *peer);
// Resets the next connection that has served before, once the client waits for room for the body of an INSERT.
void tls_peer_cut_next(struct tls_peer *peer);
// INSERTs that were read to their end.
size_t tls_peer_inserts(struct tls_peer *peer);

#endif
