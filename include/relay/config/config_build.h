// SPDX-License-Identifier: Apache-2.0
//
// From settings to the struct: what each text means, and where it goes. For config.c and its parts only. Every mistake
// is reported to the source's report; values that are mistaken become the default, so that the rest can be judged, too.
#ifndef RELAY_CONFIG_CONFIG_BUILD_H
#define RELAY_CONFIG_CONFIG_BUILD_H

#include "relay/config/config.h"
#include "relay/config/config_source.h"

// The whole of it: config has its memory, everything else is made.
void config_build(const struct config_source *source, struct config *config);

// What a struct of a section is made of: the first of `places` that has a key gives it, else the default. `places` are
// sections from the nearest to the farthest.
struct config_place {
    enum config_section_id section;
    const char *name;
};

// Stores every key of `section` into target (of the section's struct).
void config_build_section(const struct config_source *source, struct config_memory *memory,
    enum config_section_id section, const struct config_place *places, size_t count, void *target);
// Stores one key.
void config_build_key(const struct config_source *source, struct config_memory *memory, const struct config_key *key,
    const struct config_place *places, size_t count, void *target);
// The setting that gives a key, NULL if none does.
const struct config_setting *config_build_find(const struct config_source *source, const struct config_place *places,
    size_t count, const char *key);

#endif
