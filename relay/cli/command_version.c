// SPDX-License-Identifier: Apache-2.0
#include "relay/cli/commands.h"
#include "relay/base/version.h"

#include <curl/curl.h>
#include <jansson.h>
#include <librdkafka/rdkafka.h>
#include <libpq-fe.h>
#include <stdio.h>

int command_version(void)
{
    int libpq = PQlibVersion();
    printf("outbox-relay %s (librdkafka %s, libpq %d.%d, libcurl %s, jansson %s)\n", relay_version(),
        rd_kafka_version_str(), libpq / 10000, libpq % 10000, curl_version_info(CURLVERSION_NOW)->version,
        JANSSON_VERSION);
    return 0;
}
