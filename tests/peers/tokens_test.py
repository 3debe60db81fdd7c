"""Stock libraries verify the gateway's own tokens: `jsonwebtoken` with `jwks-rsa` an assertion, PyJWT and `jose` an access token.

The middleware of the Express app is read from `docs/migrating-from-express.md`, with the ports of this test.
"""

import json
import os
import re
import shutil
import subprocess

import jwt
from harness import APPS, HERE, REPOSITORY, Gateway, PeerTest, Process, bearer, binary, free_port, request, run, wait_for

PAGE = REPOSITORY / "docs/migrating-from-express.md"


class Tokens(PeerTest):
    """With the default algorithm; `rotate` makes a key for another one."""

    algorithm = "ES256"

    @classmethod
    def prepare(cls):
        port, app_port = free_port(), free_port()
        cls.issuer = f"http://127.0.0.1:{port}"
        cls.home = cls.directory / "app"
        shutil.copytree(APPS / "assertion", cls.home)
        (cls.home / "node_modules").symlink_to((HERE / "node_modules").resolve())
        middleware = re.search(r"^```js assertion\.mjs\n((?:.*\n)*?)```$", PAGE.read_text(), re.MULTILINE)[1]
        (cls.home / "assertion.mjs").write_text(middleware.replace("http://127.0.0.1:8080", cls.issuer))
        environment = {**os.environ, "PORT": str(app_port)}
        app = Process("app", ["node", "app.mjs"], cls.directory, env=environment, cwd=cls.home)
        cls.start(app)
        app.line(app.stdout, r"listening on 127\.0\.0\.1:(\d+)")
        cls.app_port = app_port
        toml = f"""
        [server]
        listen = "127.0.0.1:{port}"
        public_url = "{cls.issuer}"
        [admin]
        listen = "127.0.0.1:0"
        [state]
        url = "sqlite:{cls.directory}/passgate.db"
        [identity]
        assertion = true
        [upstreams.app]
        servers = ["http://127.0.0.1:{app_port}"]
        [[routes]]
        path = "/*"
        upstream = "app"
        """
        cls.gateway = Gateway(cls.directory, toml)
        cls.start(cls.gateway)
        if cls.algorithm != "ES256":
            run(binary(), "key", "rotate", "--algorithm", cls.algorithm, "-c", cls.gateway.config)

            def is_in_use():
                keys = request(port, "GET", "/.well-known/jwks.json").json()["keys"]
                return [key["alg"] for key in keys] == [cls.algorithm, "ES256"]

            wait_for("the new key", is_in_use)
        mint = ("token", "mint", "--subject", "u-1", "--role", "admin", "--email", "alice@example.com")
        cls.token = run(binary(), *mint, "-c", cls.gateway.config).stdout.strip()

    def test_express_app_verifies_the_assertion_by_jsonwebtoken(self):
        answer = request(self.gateway.port, "GET", "/whoami", bearer(self.token))
        self.assertDoneBy(self.gateway, answer, 200)
        self.assertEqual(answer.json(), {"id": "u-1", "email": "alice@example.com", "roles": ["admin"]})
        for forged in ({}, {"X-Auth-User": "root"}, {"X-Auth-Assertion": self.token}):
            with self.subTest(forged):
                self.assertEqual(request(self.app_port, "GET", "/whoami", forged).status, 401)

    def test_pyjwt_verifies_an_access_token_found_by_discovery(self):
        found = request(self.gateway.port, "GET", "/.well-known/openid-configuration").json()
        self.assertEqual(found["issuer"], self.issuer)
        key = jwt.PyJWKClient(found["jwks_uri"]).get_signing_key_from_jwt(self.token)
        self.assertEqual(key.algorithm_name, self.algorithm)
        algorithms = found["id_token_signing_alg_values_supported"]
        options = {"audience": self.issuer, "issuer": self.issuer, "algorithms": algorithms}
        self.assertEqual(jwt.decode(self.token, key, **options)["sub"], "u-1")
        head, body, signature = self.token.split(".")
        with self.assertRaises(jwt.InvalidSignatureError):
            jwt.decode(f"{head}.{body}.{signature[:-8]}AAAAAAAA", key, **options)

    def test_jose_verifies_an_access_token_found_by_discovery(self):
        done = subprocess.run(
            ["node", "discovered.mjs"],
            cwd=self.home,
            env={**os.environ, "ISSUER": self.issuer},
            input=self.token,
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        verified = json.loads(done.stdout)
        self.assertEqual((verified["header"]["alg"], verified["claims"]["sub"]), (self.algorithm, "u-1"))


class TokensByRsa(Tokens):
    algorithm = "RS256"
