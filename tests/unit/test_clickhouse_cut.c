// SPDX-License-Identifier: Apache-2.0
//
// A kept TLS connection that ends within the body of an INSERT, before libcurl counts any of it as sent.
#include "clickhouse_peer.h"
#include "tls_peer.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static void handle(void *context, const struct http_seen *seen, struct http_reply *reply)
{
    (void)context, (void)seen;
    reply->answer = HTTP_OK(0, "");
}

static bool insert(struct clickhouse_peer *peer, char *bytes, size_t length, struct clickhouse_outcome *outcome,
    struct relay_error *error)
{
    static const struct clickhouse_request over_tls = {.endpoint = 1};
    struct iovec body = {bytes, length};
    return clickhouse_insert(peer->client, &over_tls, "INSERT INTO t FORMAT Native", &body, 1, outcome, error);
}

Test(clickhouse_cut, an_insert_is_not_sent_again_without_its_body, .timeout = 120)
{
    static char noise[400000]; // less than libcurl's upload buffer, more than the sockets take
    struct clickhouse_peer peer;
    struct clickhouse_outcome outcome;
    struct relay_error error;
    struct tls_peer *tls = tls_peer_start();
    unsigned state = 1;
    for (size_t i = 0; i < sizeof(noise); i++) {
        state = state * 1664525u + 1013904223u;
        noise[i] = (char)(state >> 24);
    }
    clickhouse_peer_start(&peer, handle, NULL, tls_peer_url(tls));
    char *ca_file = strdup(tls_peer_ca_file(tls));
    peer.config.clickhouse.ca_file = ca_file;
    cr_assert(insert(&peer, noise, 10, &outcome, &error), "%s", error.text);
    cr_assert_eq(tls_peer_inserts(tls), 1);
    tls_peer_cut_next(tls);
    cr_assert_not(insert(&peer, noise, sizeof(noise), &outcome, &error), "the body of %zu bytes went nowhere",
        sizeof(noise));
    cr_assert_eq(outcome.failure, CLICKHOUSE_OUTCOME_UNKNOWN, "%s", error.text);
    cr_assert_not_null(strstr(error.text, "the connection broke within the request"), "%s", error.text);
    cr_assert(outcome.body_sent);
    cr_assert_eq(tls_peer_inserts(tls), 1);
    cr_assert(insert(&peer, noise, sizeof(noise), &outcome, &error), "%s", error.text);
    cr_assert_eq(tls_peer_inserts(tls), 2);
    clickhouse_peer_finish(&peer);
    tls_peer_stop(tls);
    free(ca_file);
}
