// SPDX-License-Identifier: Apache-2.0
//
// [route NAME] and the built-in default route. A part of config_build.h: reports to the source's report.
#ifndef RELAY_CONFIG_CONFIG_ROUTES_H
#define RELAY_CONFIG_CONFIG_ROUTES_H

#include "relay/config/config_build.h"

// Fills routes and route_count, after the outboxes, whose templates say what the default route takes.
void config_build_routes(const struct config_source *source, struct config *config);

#endif
