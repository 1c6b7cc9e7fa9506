#!/usr/bin/env python3
"""Serves the bare git repositories of a directory over HTTP on the loopback interface.

A small front of `git http-backend` for demonstrations: whoever gives the token of the environment
variable GIT_HTTP_TOKEN, as a password of any user or as a bearer token, may read and write. It is
no server for a network: there is no TLS.

usage: git-http.py DIRECTORY PORT-FILE

The port is chosen by the system and written to PORT-FILE once the server listens.
"""

import base64
import binascii
import hmac
import os
import subprocess
import sys
import tempfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MAX_BODY = 64 * 1024 * 1024
PATIENCE = 60


class TooLarge(Exception):
    """The body of a request is larger than MAX_BODY."""


class Malformed(Exception):
    """The framing of a body is not HTTP."""


class Handler(BaseHTTPRequestHandler):
    """One connection; each request is one run of `git http-backend`."""

    protocol_version = "HTTP/1.1"
    timeout = PATIENCE

    def do_GET(self):
        self.answer()

    def do_POST(self):
        self.answer()

    def answer(self):
        # The body of a refused request is not read, so the connection cannot be used again.
        if not self.allowed():
            return self.refuse(401, [("WWW-Authenticate", 'Basic realm="manifests"')])
        with tempfile.TemporaryFile() as body:
            try:
                length = self.receive(body)
            except TooLarge:
                return self.refuse(413)
            except Malformed:
                return self.refuse(400)
            body.seek(0)
            backend = subprocess.run(
                ["git", "http-backend"],
                stdin=body,
                stdout=subprocess.PIPE,
                env=self.environment(length),
                timeout=PATIENCE,
                check=False,
            )
        self.pass_on(backend.stdout)

    def allowed(self):
        scheme, _, given = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                given = base64.b64decode(given, validate=True).decode().partition(":")[2]
            except (binascii.Error, UnicodeDecodeError):
                return False
        elif scheme.lower() != "bearer":
            return False
        return hmac.compare_digest(given.encode(), self.server.token.encode())

    def receive(self, body):
        """Reads the request's body, whole or in chunks, and returns its length."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.copy(body, self.number(self.headers.get("Content-Length", "0"), 10), 0)
        total = 0
        while True:
            size = self.number(self.line().partition(";")[0], 16)
            if size == 0:
                while self.line():
                    pass
                return total
            total = self.copy(body, size, total)
            if self.line():
                raise Malformed

    def copy(self, body, size, before):
        if before + size > MAX_BODY:
            raise TooLarge
        data = self.rfile.read(size)
        if len(data) != size:
            raise Malformed
        body.write(data)
        return before + size

    def line(self):
        return self.rfile.readline(1024).decode("latin-1").strip()

    @staticmethod
    def number(text, base):
        try:
            value = int(text, base)
        except ValueError:
            raise Malformed from None
        if value < 0:
            raise Malformed
        return value

    def environment(self, length):
        path, _, query = self.path.partition("?")
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_SYSTEM": os.devnull,
            "GIT_PROJECT_ROOT": self.server.root,
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(length),
            # A named user is what lets http-backend accept a push.
            "REMOTE_USER": "bot",
            "REMOTE_ADDR": self.client_address[0],
        }
        for header, name in (
            ("Git-Protocol", "GIT_PROTOCOL"),
            ("Content-Encoding", "HTTP_CONTENT_ENCODING"),
        ):
            if header in self.headers:
                environment[name] = self.headers[header]
        return environment

    def pass_on(self, output):
        """Sends what the backend wrote: headers like a CGI program's, then the body."""
        head, found, body = output.partition(b"\r\n\r\n")
        if not found:
            return self.refuse(500)
        status, headers = 200, []
        for line in head.decode("latin-1").split("\r\n"):
            name, _, value = line.partition(": ")
            if name.lower() == "status":
                status = int(value.split()[0])
            else:
                headers.append((name, value))
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, status, headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    token = os.environ.get("GIT_HTTP_TOKEN")
    if not token:
        sys.exit("GIT_HTTP_TOKEN is not set: the token that clients have to give")
    root, port_file = sys.argv[1:]
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.root = os.path.abspath(root)
    server.token = token
    # Renamed into place, so that nobody reads half a number.
    with open(port_file + ".new", "w", encoding="ascii") as file:
        file.write(str(server.server_port))
    os.rename(port_file + ".new", port_file)
    server.serve_forever()


if __name__ == "__main__":
    main()
