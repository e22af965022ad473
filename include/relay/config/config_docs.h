// SPDX-License-Identifier: Apache-2.0
//
// The table of keys as people read it: for the documentation, the sample file and the command line. What stands in
// docs/configuration.md and deploy/outbox-relay.ini is written by these (tests/tools/config_docs.c). Any thread.
#ifndef RELAY_CONFIG_CONFIG_DOCS_H
#define RELAY_CONFIG_CONFIG_DOCS_H

#include "relay/config/config_table.h"

#include <stdio.h>

// The keys of a section as a Markdown table; for [kafka] the properties that cannot be set, each with its reason.
void config_docs_table(FILE *out, enum config_section_id section);
// Every key, commented out, with its sentence and default.
void config_docs_sample(FILE *out);
// One line a key: "[section] key (default)", for --help.
void config_docs_help(FILE *out);

#endif
