// SPDX-License-Identifier: Apache-2.0
#include "relay/base/tls_trust.h"

#include <criterion/criterion.h>
#include <string.h>

static bool names_certificate(CURLcode code, const char *detail)
{
    return strstr(tls_trust_advice(code, detail), "client certificate (cert_file, key_file)") != NULL;
}

// With TLS 1.3 the client has sent its request by then: the refusal comes as an alert, or as a connection that breaks.
Test(tls_trust, a_refused_client_is_told_of_the_certificate)
{
    cr_assert(names_certificate(CURLE_RECV_ERROR,
        "OpenSSL SSL_read: error:0A00045C:SSL routines::tlsv13 alert certificate required, errno 0"));
    cr_assert(names_certificate(CURLE_SEND_ERROR, "OpenSSL SSL_write: Broken pipe, errno 32"));
    cr_assert(names_certificate(CURLE_SSL_CONNECT_ERROR, "TLS connect error: unexpected eof while reading"));
    cr_assert_not(names_certificate(CURLE_SEND_ERROR, "Send failure: Broken pipe"));
    cr_assert_not(names_certificate(CURLE_COULDNT_CONNECT, "Connection refused"));
}
