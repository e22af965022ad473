// SPDX-License-Identifier: Apache-2.0
#include "relay/base/version.h"

#ifndef RELAY_BUILD
#include "relay_build.h"
#endif

const char *relay_version(void)
{
    return RELAY_BUILD;
}
