"""A real browser on several hosts of one gateway, two of one domain and one of another: one sign-in and one sign-out for all."""

import base64
import hashlib
import http.server
import json
import re
import ssl
import subprocess
import threading

from harness import APPS, Authority, Gateway, PeerTest, binary, free_port

HOSTS = ("login.test", "reports.test", "shop.example", "away.test", "wrong.test", "elsewhere.example")


def stories() -> list[str]:
    """The names of the stories in the script."""
    return re.findall(r'^  async "(.*)"\(\) \{$', (APPS / "several_hosts.mjs").read_text(), re.MULTILINE)


class App(http.server.BaseHTTPRequestHandler):
    """Redirects to another origin, which is this app under another name."""

    protocol_version = "HTTP/1.1"
    elsewhere = ""

    def do_GET(self):
        body = b"<!doctype html><title>Landed</title><p>Landed elsewhere"
        self.send_response(302 if self.path == "/away" else 200)
        if self.path == "/away":
            self.send_header("Location", f"{self.elsewhere}/landed")
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class SeveralHosts(PeerTest):
    @classmethod
    def serve(cls, context: ssl.SSLContext | None = None) -> int:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), App)
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        cls.addClassCleanup(server.server_close)
        cls.addClassCleanup(server.shutdown)
        return server.server_address[1]

    @classmethod
    def prepare(cls):
        port = free_port()
        certificate, key = Authority(cls.directory).issue("gateway", *(f"DNS:{host}" for host in HOSTS))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        App.elsewhere = f"https://elsewhere.example:{cls.serve(context)}"
        app = cls.serve()
        toml = f"""
        [server]
        listen = "127.0.0.1:{port}"
        public_url = "https://login.test:{port}"
        [server.tls]
        certificate = "{certificate}"
        private_key = "{key}"
        [admin]
        listen = "127.0.0.1:0"
        [state]
        url = "sqlite:passgate.db"
        [password]
        [upstreams.whoami]
        builtin = "whoami"
        [upstreams.app]
        servers = ["http://127.0.0.1:{app}"]
        [[routes]]
        path = "/*"
        upstream = "whoami"
        [[routes]]
        path = "/away"
        upstream = "app"
        [[routes]]
        host = "reports.test"
        path = "/*"
        upstream = "whoami"
        [[routes]]
        host = "shop.example"
        path = "/*"
        upstream = "whoami"
        [[routes]]
        host = "away.test"
        path = "/*"
        upstream = "app"
        """
        config = cls.directory / "hosts.toml"
        config.write_text(toml)
        add = [binary(), "user", "add", "anna@example.com", "-c", config]
        subprocess.run(add, input="Anna's long password\n", text=True, check=True, capture_output=True)
        cls.gateway = cls.start(Gateway(cls.directory, toml, "hosts"))
        public_key = ["openssl", "pkey", "-in", key, "-pubout", "-outform", "DER"]
        digest = hashlib.sha256(subprocess.run(public_key, capture_output=True, check=True).stdout).digest()
        told = {"port": port, "trusted": base64.b64encode(digest).decode(), "elsewhere": App.elsewhere}
        done = subprocess.run(
            ["node", APPS / "several_hosts.mjs"], input=json.dumps(told), capture_output=True, text=True, timeout=300
        )
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        cls.outcomes = {line["story"]: line["error"] for line in lines}
        cls.said = done.stderr

    def tell(self, story: str):
        self.assertIn(story, self.outcomes, f"never told\n{self.said}")
        if self.outcomes[story]:
            self.fail(f"{self.outcomes[story]}\n{self.gateway.text()}")

    def test_no_code_and_no_token_is_in_a_log(self):
        text = self.gateway.stdout.read_text() + self.gateway.stderr.read_text()
        self.assertIn("/auth/continue", text)
        for secret in ("code=", "eyJ", "Anna's", "nonce"):
            self.assertNotIn(secret, text)


# One test for each story, named after it.
for _story in stories():
    setattr(SeveralHosts, "test_" + re.sub(r"\W+", "_", _story), lambda self, story=_story: self.tell(story))
