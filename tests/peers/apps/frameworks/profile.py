"""An app with auth-proxy support, as Grafana has it: it shows the bytes of a header as the name of who is signed in.

Usage: profile.py PORT HEADER
"""

import http.server
import sys

PORT, HEADER = int(sys.argv[1]), sys.argv[2]


class Profile(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.headers.get(HEADER, "").encode("latin-1")  # the bytes that were sent, as Go and PHP give them
        page = b'<!doctype html><meta charset="utf-8"><p>Signed in as <b>' + name + b"</b>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_):
        pass


http.server.HTTPServer(("127.0.0.1", PORT), Profile).serve_forever()
