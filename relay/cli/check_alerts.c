// SPDX-License-Identifier: Apache-2.0
//
// Whether somebody listens where alerts go: a connection (with TLS) to each webhook and no message; of an Alertmanager
// its status. Only scheme, host and port of a URL are shown: the path of a webhook is often its secret.
#include "relay/cli/check.h"

#include "relay/base/http_request.h"
#include "relay/base/tls_trust.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

static size_t discard(char *bytes, size_t size, size_t count, void *context)
{
    (void)bytes;
    (void)context;
    return size * count;
}

// "https://host:port" of a URL; "the URL" where it cannot be read.
static void public_part(const char *url, char *text, size_t room)
{
    CURLU *parts = curl_url();
    char *scheme = NULL, *host = NULL, *port = NULL;
    snprintf(text, room, "the URL");
    if (parts && curl_url_set(parts, CURLUPART_URL, url, 0) == CURLUE_OK &&
        curl_url_get(parts, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
        curl_url_get(parts, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
        curl_url_get(parts, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK) {
        snprintf(text, room, "%s://%s:%s", scheme, host, port);
    }
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(parts);
}

// The Alertmanager's address as configured, with or without the path of its API, to that of its status; malloc'd.
static char *status_url(const char *url)
{
    static const char path[] = "/api/v2/alerts";
    size_t length = strlen(url);
    while (length > 0 && url[length - 1] == '/') {
        length--;
    }
    if (length >= sizeof(path) - 1 && strncmp(url + length - (sizeof(path) - 1), path, sizeof(path) - 1) == 0) {
        length -= sizeof(path) - 1;
    }
    char *whole = NULL;
    return asprintf(&whole, "%.*s/api/v2/status", (int)length, url) < 0 ? NULL : whole;
}

static void check_target(struct check *check, const char *what, const char *url, bool connect_only)
{
    const struct config_alert *alert = &check->context->config->alert;
    const struct tls_files tls = {.ca_file = alert->ca_file,
        .cert_file = alert->cert_file,
        .key_file = alert->key_file};
    char where[300], why[CURL_ERROR_SIZE] = "";
    long status = 0;
    public_part(url, where, sizeof(where));
    CURL *easy = curl_easy_init();
    if (!easy) {
        check_add(check->report, CHECK_WARN, what, "", "not tried: out of memory");
        return;
    }
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_CONNECT_ONLY, connect_only ? 1L : 0L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, 5000L);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)duration_ms(CHECK_TIMEOUT));
    http_request_common(easy);
    tls_trust(easy, &tls);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, why);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, discard);
    CURLcode code = curl_easy_perform(easy);
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_cleanup(easy);
    if (code != CURLE_OK) {
        check_add(check->report, CHECK_FAIL, what,
            "fix the URL or the way there (proxy, firewall, certificate; [alert] ca_file names private authorities, "
            "cert_file and key_file a client certificate)",
            "%s: %s", where, why[0] != '\0' ? why : curl_easy_strerror(code));
    } else if (!connect_only && status != 200) {
        check_add(check->report, CHECK_FAIL, what, "name the Alertmanager's own address, without a path",
            "%s answers /api/v2/status with %ld", where, status);
    } else {
        check_add(check->report, CHECK_OK, what, "",
            connect_only ? "%s accepts connections; no message was sent" : "%s is an Alertmanager", where);
    }
}

void check_alerts(struct check *check)
{
    const struct config_alert *alert = &check->context->config->alert;
    if (alert->webhook_url[0] != '\0') {
        check_target(check, "alert webhook", alert->webhook_url, true);
    }
    if (alert->slack_url[0] != '\0') {
        check_target(check, "alert slack", alert->slack_url, true);
    }
    if (alert->alertmanager_url[0] != '\0') {
        char *url = status_url(alert->alertmanager_url);
        if (url) {
            check_target(check, "alert alertmanager", url, false);
        }
        free(url);
    }
    if (alert->webhook_url[0] == '\0' && alert->slack_url[0] == '\0' && alert->alertmanager_url[0] == '\0') {
        check_add(check->report, CHECK_WARN, "alerts",
            "set [alert] alertmanager_url, slack_url or webhook_url, or watch the metrics",
            "no target: alerts go to the log only");
    }
}
