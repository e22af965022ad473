# SPDX-License-Identifier: Apache-2.0
"""An authority of certificates made for a test, and a TLS end in front of a plain server."""
import os
import socket
import ssl
import subprocess
import threading


class Authority:
    """ca_file is what clients believe; server_context() has a certificate of it for 127.0.0.1; cert_file and key_file are a client's."""

    def __init__(self, folder):
        self.folder = folder
        self.ca_file = os.path.join(folder, "ca.pem")
        with open(os.path.join(folder, "server.ext"), "w", encoding="utf-8") as file:
            file.write("subjectAltName = IP:127.0.0.1\n")
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                      "-subj", "/CN=a private authority", "-addext", "basicConstraints=critical,CA:TRUE",
                      "-keyout", "ca.key", "-out", "ca.pem")
        self.cert_file, self.key_file = os.path.join(folder, "client.pem"), os.path.join(folder, "client.key")
        self._issue("server", "127.0.0.1", "-extfile", "server.ext")
        self._issue("client", "outbox_relay")

    def _issue(self, name, subject, *extensions):
        self._openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={subject}",
                      "-keyout", f"{name}.key", "-out", f"{name}.csr")
        self._openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
                      *extensions, "-out", f"{name}.pem")

    def _openssl(self, *arguments):
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                       timeout=60)

    def server_context(self, wants_certificate=False):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if wants_certificate:
            context.load_verify_locations(self.ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(os.path.join(self.folder, "server.pem"), os.path.join(self.folder, "server.key"))
        return context


class TlsFront:
    """Takes TLS on a port of 127.0.0.1 and hands the bytes on to a plain server there."""

    def __init__(self, context, port):
        self._context, self._behind = context, port
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                raw, _ = self._socket.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._serve, args=(raw,), daemon=True).start()

    def _serve(self, raw):
        try:
            raw.settimeout(60)
            front = self._context.wrap_socket(raw, server_side=True)
            behind = socket.create_connection(("127.0.0.1", self._behind), timeout=60)
        except OSError:  # a client that does not believe us hangs up
            raw.close()
            return
        threading.Thread(target=self._copy, args=(behind, front), daemon=True).start()
        self._copy(front, behind)

    @staticmethod
    def _copy(source, target):
        try:
            while piece := source.recv(65536):
                target.sendall(piece)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self._socket.close()
