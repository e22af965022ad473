# SPDX-License-Identifier: Apache-2.0
"""HTTP to servers of this machine: never by a proxy that the environment names."""
import urllib.request


def open_direct(request, timeout):
    """urlopen() of a request or URL that goes straight to its server."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=timeout)
