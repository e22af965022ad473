// SPDX-License-Identifier: Apache-2.0
#include "relay/base/tls_trust.h"

#include <stdbool.h>
#include <string.h>

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

const char *tls_trust_advice(CURLcode code, const char *detail)
{
    // With TLS 1.3 that is heard only after the handshake, with the answer.
    if (strstr(detail, "certificate required") != NULL) {
        return "; the server wants a client certificate (cert_file, key_file)";
    }
    if (code == CURLE_SSL_CERTPROBLEM) {
        return "; fix the files that cert_file and key_file name";
    }
    // It may also have ended the connection before its reason could be read.
    if (code == CURLE_SEND_ERROR && strstr(detail, "SSL") != NULL) {
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
