"""Python's own `http.server`, careless in the ways that apps are: a body after HEAD, bodies of requests left unread.

    python3 careless.py PORT

Says each request that it reads on standard output: the number of its connection, method and path.
"""

import http.server
import itertools
import sys
import threading
import time

numbers = itertools.count(1)


class Careless(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.number = next(numbers)

    def do_GET(self):
        status = {"/204": 204, "/304": 304}.get(self.path.split("?")[0], 200)
        body = f"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstale{self.path}".encode()
        if self.path.startswith("/victim"):
            body = self.path.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.flush()
        if self.command == "HEAD" or status != 200:
            time.sleep(0.001)  # a moment late
        try:
            self.wfile.write(body)
        except OSError:
            self.close_connection = True

    do_HEAD = do_OPTIONS = do_DELETE = do_GET

    def log_request(self, *_):
        print(self.number, self.command, self.path, flush=True)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_):
        pass  # a client that went away


if __name__ == "__main__":
    threading.stack_size(256 * 1024)
    Server(("127.0.0.1", int(sys.argv[1])), Careless).serve_forever()
