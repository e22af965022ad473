// SPDX-License-Identifier: Apache-2.0
//
// [outbox] and [outbox NAME], with what they inherit. A part of config_build.h: reports to the source's report.
#ifndef RELAY_CONFIG_CONFIG_OUTBOXES_H
#define RELAY_CONFIG_CONFIG_OUTBOXES_H

#include "relay/config/config_build.h"

// Fills outboxes, outbox_count and publish.enabled, after [publish].
void config_build_outboxes(const struct config_source *source, struct config *config);

// Whether an outbox can do without this column.
bool config_column_may_miss(enum config_column_role role);
const char *config_column_key(enum config_column_role role); // "column.id"
// Its name where the configuration gives none; "": there is none in this layout.
const char *config_column_default(enum config_layout layout, enum config_column_role role);

#endif
