// SPDX-License-Identifier: Apache-2.0
//
// What every HTTP request of ours has in common: it speaks HTTP and nothing else, raises no signal, and when it is
// over, by an answer, a timeout or a stop, it does not wait for a resolver that hangs (libcurl 7.87 and later).
// Stateless; the thread of the handle.
#ifndef RELAY_BASE_HTTP_REQUEST_H
#define RELAY_BASE_HTTP_REQUEST_H

#include <curl/curl.h>

// Again after each curl_easy_reset().
void http_request_common(CURL *easy);

#endif
