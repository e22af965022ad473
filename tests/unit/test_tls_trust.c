// SPDX-License-Identifier: Apache-2.0
#include "relay/base/tls_trust.h"
#include "tls_peer.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#define WAIT_MS 30000

struct attempt {
    CURL *easy;
    char detail[CURL_ERROR_SIZE];
    curl_socket_t fd;
};

static int keep_socket(void *attempt, curl_socket_t fd, curlsocktype purpose)
{
    (void)purpose;
    ((struct attempt *)attempt)->fd = fd;
    return CURL_SOCKOPT_OK;
}

static void open_attempt(struct attempt *attempt, const char *url, const char *ca_file)
{
    attempt->easy = curl_easy_init();
    cr_assert_not_null(attempt->easy);
    attempt->detail[0] = '\0';
    tls_trust(attempt->easy, &(struct tls_files){.ca_file = ca_file});
    curl_easy_setopt(attempt->easy, CURLOPT_URL, url);
    curl_easy_setopt(attempt->easy, CURLOPT_ERRORBUFFER, attempt->detail);
    curl_easy_setopt(attempt->easy, CURLOPT_TIMEOUT_MS, 2L * WAIT_MS);
}

static bool names_certificate(struct attempt *attempt, CURLcode code)
{
    return strstr(tls_trust_advice(attempt->easy, code, attempt->detail), "client certificate (cert_file, key_file)") !=
        NULL;
}

// Before the request is sent.
static int await_reset(void *attempt, char *to, char *from, int to_port, int from_port)
{
    (void)to, (void)from, (void)to_port, (void)from_port;
    struct pollfd end = {.fd = ((struct attempt *)attempt)->fd};
    return poll(&end, 1, WAIT_MS) == 1 ? CURL_PREREQFUNC_OK : CURL_PREREQFUNC_ABORT;
}

Test(tls_trust, an_alert_that_asks_for_a_certificate_is_understood)
{
    struct attempt attempt;
    open_attempt(&attempt, "https://127.0.0.1:1", NULL);
    strcpy(attempt.detail, "OpenSSL SSL_read: error:0A00045C:SSL routines::tlsv13 alert certificate required, errno 0");
    cr_assert(names_certificate(&attempt, CURLE_RECV_ERROR));
    strcpy(attempt.detail, "TLS connect error: unexpected eof while reading");
    cr_assert(names_certificate(&attempt, CURLE_SSL_CONNECT_ERROR));
    curl_easy_cleanup(attempt.easy);
}

// With TLS 1.3 the handshake is over for the client by then, so it finds a socket that is broken, with no word of TLS.
Test(tls_trust, a_client_that_is_refused_before_it_could_ask_is_told_of_the_certificate, .timeout = 120)
{
    struct tls_peer *peer = tls_peer_start();
    struct attempt attempt;
    tls_peer_refuse_strangers(peer);
    open_attempt(&attempt, tls_peer_url(peer), tls_peer_ca_file(peer));
    curl_easy_setopt(attempt.easy, CURLOPT_PREREQFUNCTION, await_reset);
    curl_easy_setopt(attempt.easy, CURLOPT_PREREQDATA, &attempt);
    curl_easy_setopt(attempt.easy, CURLOPT_SOCKOPTFUNCTION, keep_socket);
    curl_easy_setopt(attempt.easy, CURLOPT_SOCKOPTDATA, &attempt);
    CURLcode code = curl_easy_perform(attempt.easy);
    cr_assert(code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR, "%s", curl_easy_strerror(code));
    cr_assert(names_certificate(&attempt, code), "%s: %s", curl_easy_strerror(code), attempt.detail);
    curl_easy_cleanup(attempt.easy);
    tls_peer_stop(peer);
}

Test(tls_trust, a_connection_without_tls_that_breaks_wants_no_certificate, .timeout = 120)
{
    char url[64];
    struct tls_peer *peer = tls_peer_start();
    struct attempt attempt;
    snprintf(url, sizeof(url), "http%s", tls_peer_url(peer) + strlen("https"));
    open_attempt(&attempt, url, NULL);
    CURLcode code = curl_easy_perform(attempt.easy);
    cr_assert(code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR, "%s", curl_easy_strerror(code));
    cr_assert_not(names_certificate(&attempt, code), "%s: %s", curl_easy_strerror(code), attempt.detail);
    curl_easy_cleanup(attempt.easy);
    tls_peer_stop(peer);
}

Test(tls_trust, a_server_that_is_not_there_is_not_taken_for_one_that_wants_a_certificate)
{
    struct attempt attempt;
    open_attempt(&attempt, "https://127.0.0.1:1", NULL);
    CURLcode code = curl_easy_perform(attempt.easy);
    cr_assert_eq(code, CURLE_COULDNT_CONNECT);
    cr_assert_not(names_certificate(&attempt, code));
    curl_easy_cleanup(attempt.easy);
}
