// SPDX-License-Identifier: Apache-2.0
//
// What differs between two configurations, for a reload. Reads both, keeps nothing; any thread.
#ifndef RELAY_CONFIG_CONFIG_COMPARE_H
#define RELAY_CONFIG_CONFIG_COMPARE_H

#include "relay/config/config.h"

// section: "insert", "outbox orders" ... key is "" where a whole [outbox NAME] or [route NAME] came or went. Both texts
// are valid during the call only. live: a running daemon can take it over.
typedef void config_difference(void *context, const char *section, const char *key, bool live);
// Calls back once for each key that differs, in the order of the table of keys.
void config_compare(const struct config *before, const struct config *after, config_difference *difference,
    void *context);

#endif
