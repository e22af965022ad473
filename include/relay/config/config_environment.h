// SPDX-License-Identifier: Apache-2.0
//
// Settings from environment variables: OUTBOX_RELAY_<SECTION>_<KEY>. A part of config_source.h.
#ifndef RELAY_CONFIG_CONFIG_ENVIRONMENT_H
#define RELAY_CONFIG_CONFIG_ENVIRONMENT_H

#include "relay/config/config_source.h"

// environment: "NAME=value" each, NULL-terminated; copied. To be called after the file was read, whose settings it
// replaces.
void config_source_read_environment(struct config_source *source, char *const *environment);

#endif
