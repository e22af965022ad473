# SPDX-License-Identifier: Apache-2.0
"""A web hook's other end: keeps what is posted to it, answers as it is told."""
import http.server
import json
import threading


class Receiver:
    def __init__(self, port=0, tls=None):
        self.status, self.hang = 200, None  # hang: a threading.Event that a request waits for
        self.posts = []  # parsed bodies, in the order in which they came
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                receiver.posts.append(json.loads(body))
                if receiver.hang is not None:
                    receiver.hang.wait(120)
                self.send_response(receiver.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._scheme = "http" if tls is None else "https"
        if tls is not None:  # the handshake is each connection's own thread's
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def port(self):
        return self._server.server_address[1]

    @property
    def url(self):
        return f"{self._scheme}://127.0.0.1:{self.port}"

    def alerts(self, name):
        """The alerts of this name that came so far, by the generic web hook's form."""
        return [alert for post in list(self.posts) for alert in post.get("alerts", []) if alert["name"] == name]

    def close(self):
        if self.hang is not None:
            self.hang.set()
        self._server.shutdown()
        self._server.server_close()
