// SPDX-License-Identifier: Apache-2.0
#include "relay/base/tls_trust.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

static bool is_named(const char *file)
{
    return file != NULL && file[0] != '\0';
}

void tls_trust(CURL *easy, const struct tls_files *files)
{
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    if (is_named(files->cert_file) && is_named(files->key_file)) {
        curl_easy_setopt(easy, CURLOPT_SSLCERT, files->cert_file);
        curl_easy_setopt(easy, CURLOPT_SSLKEY, files->key_file);
        curl_easy_setopt(easy, CURLOPT_KEYPASSWD, ""); // else OpenSSL asks the terminal for one
    }
    if (is_named(files->ca_file)) {
        curl_easy_setopt(easy, CURLOPT_CAINFO, files->ca_file);
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL); // else the system's authorities count as well
#if LIBCURL_VERSION_NUM >= 0x075700
        curl_easy_setopt(easy, CURLOPT_CA_CACHE_TIMEOUT, 60L); // a day by default
#endif
    }
}

static bool is_of_https(CURL *easy)
{
    const char *scheme = NULL;
    return curl_easy_getinfo(easy, CURLINFO_SCHEME, &scheme) == CURLE_OK && scheme != NULL &&
        strcasecmp(scheme, "https") == 0;
}

// A new connection that broke before the server had answered anything on it.
static bool broke_at_once(CURL *easy, CURLcode code)
{
    long connections = 0, answered = 0;
    curl_easy_getinfo(easy, CURLINFO_NUM_CONNECTS, &connections);
    curl_easy_getinfo(easy, CURLINFO_HEADER_SIZE, &answered);
    return (code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR || code == CURLE_GOT_NOTHING) && connections > 0 &&
        answered == 0;
}

const char *tls_trust_advice(CURL *easy, CURLcode code, const char *detail)
{
    // With TLS 1.3 that is heard only after the handshake, with the answer.
    if (strstr(detail, "certificate required") != NULL) {
        return "; the server wants a client certificate (cert_file, key_file)";
    }
    if (code == CURLE_SSL_CERTPROBLEM) {
        return "; fix the files that cert_file and key_file name";
    }
    // It may also have ended the connection before its reason could be read. The handshake is over for the client then,
    // so that libcurl tells of a broken socket only.
    if (broke_at_once(easy, code) && is_of_https(easy)) {
        return "; the server ended the connection: does it want a client certificate (cert_file, key_file)?";
    }
    if (code == CURLE_SSL_CONNECT_ERROR) {
        return "; is this an https port, and does the server want a client certificate (cert_file, key_file)?";
    }
    if (code == CURLE_PEER_FAILED_VERIFICATION) {
        return "; is its name in the certificate, and is the authority known (ca_file names private ones)?";
    }
    return code == CURLE_SSL_CACERT_BADFILE ? "; fix the file that ca_file names" : "";
}
