// SPDX-License-Identifier: Apache-2.0
//
// Happy path: one GET of /health. 503 is an answer, too: it says what is down. No answer, another service, or no JSON:
// the reason in words, and the caller asks the servers.
#include "relay/base/http_request.h"
#include "relay/cli/status.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_LIMIT ((size_t)8 << 20)

struct answer {
    char *bytes;
    size_t length;
};

static size_t take(char *bytes, size_t size, size_t count, void *context)
{
    struct answer *answer = context;
    size_t more = size * count;
    char *grown = answer->length + more > ANSWER_LIMIT ? NULL : realloc(answer->bytes, answer->length + more + 1);
    if (!grown) {
        return 0;
    }
    memcpy(grown + answer->length, bytes, more);
    answer->bytes = grown;
    answer->length += more;
    return more;
}

static CURLcode get(const char *url, struct duration timeout, struct answer *answer, long *status, char *why)
{
    CURL *easy = curl_easy_init();
    if (!easy) {
        return CURLE_OUT_OF_MEMORY;
    }
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)duration_ms(timeout));
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)duration_ms(timeout));
    http_request_common(easy);
    curl_easy_setopt(easy, CURLOPT_PROXY, ""); // the daemon is near
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, why);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, answer);
    CURLcode code = curl_easy_perform(easy);
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, status);
    curl_easy_cleanup(easy);
    return code;
}

json_t *status_from_daemon(const char *url, struct duration timeout, char *why, size_t room)
{
    struct answer answer = {0};
    char *address = NULL, reason[CURL_ERROR_SIZE] = "";
    json_t *status = NULL;
    json_error_t where;
    long code = 0;
    size_t length = strlen(url);
    while (length > 0 && url[length - 1] == '/') {
        length--;
    }
    if (asprintf(&address, "%.*s/health", (int)length, url) < 0) {
        snprintf(why, room, "out of memory");
        return NULL;
    }
    CURLcode done = get(address, timeout, &answer, &code, reason);
    if (done != CURLE_OK) {
        snprintf(why, room, "%s: %s", url, reason[0] != '\0' ? reason : curl_easy_strerror(done));
    } else if ((code != 200 && code != 503) || !(status = json_loadb(answer.bytes, answer.length, 0, &where)) ||
        !json_is_object(json_object_get(status, "checks"))) {
        snprintf(why, room, "%s answers /health with %ld and no status of an outbox-relay", url, code);
        json_decref(status);
        status = NULL;
    }
    if (status) {
        json_object_set_new(status, "source", json_string(url));
    }
    free(answer.bytes);
    free(address);
    return status;
}

void status_url(const struct config *config, char *url, size_t room)
{
    const char *listen = config->http.listen, *colon = strrchr(listen, ':');
    url[0] = '\0';
    if (!colon || strcmp(colon, ":0") == 0) {
        return;
    }
    int length = (int)(colon - listen);
    const char *host = listen;
    // An address of all interfaces is reached by the loopback one.
    if (length == 0 || strncmp(listen, "0.0.0.0:", 8) == 0 || strncmp(listen, "*:", 2) == 0) {
        host = "127.0.0.1";
        length = 9;
    } else if (strncmp(listen, "[::]:", 5) == 0) {
        host = "[::1]";
        length = 5;
    }
    snprintf(url, room, "http://%.*s%s", length, host, colon);
}
