"""Sign-in with a certified OpenID provider (npm's oidc-provider) in a real browser: Debian's Chromium, driven by Playwright.

PASSGATE_SCREENSHOTS names a directory for screenshots of the pages, light, dark and on a phone.
"""

import json
import os
import pathlib
import re
import subprocess

from harness import APPS, Gateway, NodeApp, PeerTest, binary, free_port

PASSWORD = "Anna's first password"
SECRET = "the secret of the gateway at the provider"

TOML = """
[server]
listen = "127.0.0.1:{public}"
public_url = "http://localhost:{public}"
[admin]
listen = "127.0.0.1:0"
[state]
url = "sqlite:providers.db"
[password]
[providers.main]
issuer = "http://127.0.0.1:{main}"
client_id = "passgate"
client_secret = {{ file = "provider.secret" }}
name = "Example"
scopes = ["openid", "email", "profile", "groups"]
roles_claims = ["groups"]
allow = "anyone"
[providers.other]
issuer = "http://127.0.0.1:{other}"
client_id = "passgate"
client_secret = {{ file = "provider.secret" }}
name = "Österreichische Donaudampfschifffahrtsgesellschaft, Übersetzer"
allow = "anyone"
[upstreams.app]
builtin = "whoami"
[upstreams.streams]
servers = ["http://127.0.0.1:{streams}"]
[[routes]]
path = "/*"
upstream = "app"
[[routes]]
path = "/staff/*"
roles = ["staff"]
upstream = "app"
[[routes]]
path = "/ws"
upstream = "streams"
"""


def stories() -> list[str]:
    """The names of the stories in the script."""
    return re.findall(r'^  async "(.*)"\(\) \{$', (APPS / "providers.mjs").read_text(), re.MULTILINE)


class Providers(PeerTest):
    @classmethod
    def prepare(cls):
        public, main, other = (free_port() for _ in range(3))
        streams = cls.start(NodeApp(cls.directory, "streams"))
        toml = TOML.format(public=public, main=main, other=other, streams=streams.port)
        secret = cls.directory / "provider.secret"
        secret.write_text(SECRET)
        secret.chmod(0o600)
        (cls.directory / "providers.toml").write_text(toml)
        add = [binary(), "user", "add", "anna@example.com", "-c", cls.directory / "providers.toml"]
        subprocess.run(add, input=f"{PASSWORD}\n", text=True, check=True, capture_output=True)
        # No provider runs yet: it is ready all the same.
        cls.gateway = cls.start(Gateway(cls.directory, toml, "providers"))
        directory = os.environ.get("PASSGATE_SCREENSHOTS")
        if directory:
            pathlib.Path(directory).mkdir(parents=True, exist_ok=True)
            directory = str(pathlib.Path(directory).resolve())
        told = {"gateway": f"http://localhost:{public}", "ports": [main, other], "secret": SECRET, "password": PASSWORD}
        done = subprocess.run(
            ["node", APPS / "providers.mjs"],
            input=json.dumps({**told, "screenshots": directory}),
            capture_output=True,
            text=True,
            timeout=300,
        )
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"story"')]
        cls.outcomes = {line["story"]: line["error"] for line in lines}
        cls.said = done.stderr

    def tell(self, story: str):
        self.assertIn(story, self.outcomes, f"never told\n{self.said}")
        if self.outcomes[story]:
            self.fail(f"{self.outcomes[story]}\n{self.gateway.text()}")

    def test_secrets_and_tokens_are_in_no_log(self):
        text = self.gateway.stdout.read_text() + self.gateway.stderr.read_text()
        self.assertIn("/auth/login/main/return", text)
        # `eyJ` begins every token.
        for secret in (SECRET, PASSWORD, "eyJ", "code=", "state=", "code_verifier"):
            self.assertNotIn(secret, text)


# One test for each story, named after it.
for _story in stories():
    setattr(Providers, "test_" + re.sub(r"\W+", "_", _story), lambda self, story=_story: self.tell(story))
