// SPDX-License-Identifier: Apache-2.0
#include "relay/publish/publish_reason.h"

static const struct {
    const char *name, *text;
} reasons[] = {
#define X(id, name, text) [PUBLISH_REASON_##id] = {name, text},
    PUBLISH_REASONS(X)
#undef X
};

const char *publish_reason_name(enum publish_reason reason)
{
    return (unsigned)reason < PUBLISH_REASON_COUNT ? reasons[reason].name : "?";
}

const char *publish_reason_text(enum publish_reason reason)
{
    return (unsigned)reason < PUBLISH_REASON_COUNT ? reasons[reason].text : "?";
}
