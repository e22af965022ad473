// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/encode_reason.h"

static const struct {
    const char *name, *text;
} reasons[] = {
#define X(id, name, text) [ENCODE_##id] = {name, text},
    ENCODE_REASONS(X)
#undef X
};

const char *encode_reason_name(enum encode_reason reason)
{
    return (unsigned)reason < ENCODE_REASON_COUNT ? reasons[reason].name : "?";
}

const char *encode_reason_text(enum encode_reason reason)
{
    return (unsigned)reason < ENCODE_REASON_COUNT ? reasons[reason].text : "?";
}
