"""A real browser (Debian's Chromium, driven by Playwright), starting from the first-run link, with JavaScript off and on.

The gateway runs on `gateway.example.toml` with other ports. PASSGATE_SCREENSHOTS names a directory for screenshots of the pages,
light, dark and on a phone.
"""

import base64
import hashlib
import json
import os
import pathlib
import re
import subprocess

from harness import APPS, REPOSITORY, Authority, Gateway, Nginx, NodeApp, PeerTest, binary, free_port


def stories() -> list[str]:
    """The names of the stories in the script."""
    return re.findall(r'^  async "(.*)"\(\) \{$', (APPS / "browser.mjs").read_text(), re.MULTILINE)


class Browser(PeerTest):
    @classmethod
    def prepare(cls):
        toml = (REPOSITORY / "gateway.example.toml").read_text()
        public, admin = free_port(), free_port()
        toml = toml.replace("127.0.0.1:8080", f"127.0.0.1:{public}").replace("127.0.0.1:8081", f"127.0.0.1:{admin}")
        cls.gateway = cls.start(Gateway(cls.directory, toml))
        setup = cls.gateway.line(cls.gateway.stderr, r"(http://\S+/auth/register\?setup=\S+)")[1]
        cls.secret = setup.partition("setup=")[2]
        # An account without the administrator role leaves the link valid.
        add = [binary(), "user", "add", "bob@example.com", "--role", "user", "-c", cls.gateway.config]
        subprocess.run(add, input="Bob's long password\n", text=True, check=True, capture_output=True)
        cls.https = kept = cls.start(cls.kept())
        directory = os.environ.get("PASSGATE_SCREENSHOTS")
        if directory:
            pathlib.Path(directory).mkdir(parents=True, exist_ok=True)
            directory = str(pathlib.Path(directory).resolve())
        # Chromium accepts this one key; trusting an authority would need tools of its own.
        public_key = ["openssl", "pkey", "-in", cls.directory / "localhost.key", "-pubout", "-outform", "DER"]
        digest = hashlib.sha256(subprocess.run(public_key, capture_output=True, check=True).stdout).digest()
        told = {"base": cls.gateway.url, "kept": kept.url, "trusted": base64.b64encode(digest).decode()}
        done = subprocess.run(
            ["node", APPS / "browser.mjs"],
            input=json.dumps({**told, "setup": setup, "screenshots": directory}),
            env={**os.environ, "NODE_EXTRA_CA_CERTS": str(cls.directory / "ca.pem")},
            capture_output=True,
            text=True,
            timeout=300,
        )
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        cls.outcomes = {line["story"]: line["error"] for line in lines}
        cls.said = done.stderr

    @classmethod
    def kept(cls) -> Gateway:
        """A gateway over HTTPS in front of an app that lets browsers cache its pages."""
        site, public = free_port(), free_port()
        page = "default_type text/html; add_header Cache-Control max-age=600;"
        page += " location / { return 200 '<!doctype html><title>Page</title><p>For $http_x_auth_email'; }"
        cls.start(Nginx(cls.directory, "nginx", site, f"server {{ listen 127.0.0.1:{site}; {page} }}"))
        streams = cls.start(NodeApp(cls.directory, "streams"))
        certificate, key = Authority(cls.directory).issue("localhost", "IP:127.0.0.1")
        toml = f"""
        [server]
        listen = "127.0.0.1:{public}"
        public_url = "https://127.0.0.1:{public}"
        [server.tls]
        certificate = "{certificate}"
        private_key = "{key}"
        [admin]
        listen = "127.0.0.1:0"
        [state]
        url = "sqlite:kept.db"
        [session]
        token_lifetime = "2s"
        [password]
        registration = true
        [upstreams.app]
        servers = ["http://127.0.0.1:{site}"]
        [upstreams.streams]
        servers = ["http://127.0.0.1:{streams.port}"]
        [[routes]]
        path = "/*"
        upstream = "app"
        [[routes]]
        path = "/ws"
        upstream = "streams"
        [[routes]]
        path = "/events"
        upstream = "streams"
        """
        (cls.directory / "kept.toml").write_text(toml)
        add = [binary(), "user", "add", "anna@example.com", "-c", cls.directory / "kept.toml"]
        subprocess.run(add, input="Anna's first password\n", text=True, check=True, capture_output=True)
        return Gateway(cls.directory, toml, "kept")

    def tell(self, story: str):
        self.assertIn(story, self.outcomes, f"never told\n{self.said}")
        if self.outcomes[story]:
            self.fail(f"{self.outcomes[story]}\n{self.gateway.text()}")

    def test_typed_secrets_are_in_no_log(self):
        files = [file for gateway in (self.gateway, self.https) for file in (gateway.stdout, gateway.stderr)]
        text = "".join(file.read_text() for file in files).replace(f"setup={self.secret}", "", 1)
        self.assertIn("/hello", text)
        # `eyJ` begins every token.
        for secret in ("Anna's", "Anna%27s", "Bob's", self.secret, "eyJ"):
            self.assertNotIn(secret, text)


# One test for each story, named after it.
for _story in stories():
    setattr(Browser, "test_" + re.sub(r"\W+", "_", _story), lambda self, story=_story: self.tell(story))
