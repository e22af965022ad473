// SPDX-License-Identifier: Apache-2.0
#include "relay/base/tls_trust.h"

void tls_trust(CURL *easy, const char *ca_file)
{
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    if (ca_file != NULL && ca_file[0] != '\0') {
        curl_easy_setopt(easy, CURLOPT_CAINFO, ca_file);
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL); // else the system's authorities count as well
#if LIBCURL_VERSION_NUM >= 0x075700
        curl_easy_setopt(easy, CURLOPT_CA_CACHE_TIMEOUT, 60L); // a day by default
#endif
    }
}

const char *tls_trust_advice(CURLcode code)
{
    if (code == CURLE_PEER_FAILED_VERIFICATION) {
        return "; is its name in the certificate, and is the authority known (ca_file names private ones)?";
    }
    return code == CURLE_SSL_CACERT_BADFILE ? "; mend the file that ca_file names" : "";
}
