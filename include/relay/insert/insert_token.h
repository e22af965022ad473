// SPDX-License-Identifier: Apache-2.0
//
// Deduplication tokens, and which servers recognise them. Of a token ClickHouse keeps a hash: up to 26.1 an old one,
// from 26.6 on a new one, and between these both, so that tokens survive an upgrade by way of those versions and no
// other. A token says at its end which hashes of it every server keeps that may get the INSERT, so that whoever finds
// it in a note knows whether the server that is there by then can recognise it. Any thread.
#ifndef RELAY_INSERT_INSERT_TOKEN_H
#define RELAY_INSERT_INSERT_TOKEN_H

#include "relay/clickhouse/clickhouse_client.h"

#define INSERT_TOKEN_ROOM   96
#define INSERT_TOKEN_HASHES 3U // all that there are, a bit for each; a set without any is recognised nowhere

// A token of its own, for servers as they are known now. A word, as its note is a line of words.
void insert_token_write(char token[INSERT_TOKEN_ROOM], const char *instance, struct clickhouse_client *client);
// The set that the token names; all, where it names none, as those of older versions of the relay.
unsigned insert_token_hashes(const char *token);
// The set that this server keeps, as it is known now; all, where nothing is known of it.
unsigned insert_token_kept(struct clickhouse_client *client, int endpoint);
// The set that is kept wherever that INSERT may have been executed: by the version that it was sent to, as it was known
// then, which may have been old, and by the one that is known of its endpoint now, which may have come since.
unsigned insert_token_kept_of(struct clickhouse_client *client, const struct clickhouse_outcome *outcome);

#endif
