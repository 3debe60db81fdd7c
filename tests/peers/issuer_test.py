"""An independent OpenID provider (npm's oauth2-mock-server), found by discovery; its keys change and it becomes unreachable."""

import json
import threading

from harness import AUDIENCE, Gateway, Nginx, NodeApp, PeerTest, bearer, free_port, request, wait_for

ALGORITHMS = ("RS256", "PS384", "ES256", "ES384", "EdDSA")


class Issuer(PeerTest):
    @classmethod
    def prepare(cls):
        cls.app_port = free_port()
        answer = '{"user":"$http_x_auth_user","roles":"$http_x_auth_roles","issuer":"$http_x_auth_issuer"}'
        site = f"server {{ listen 127.0.0.1:{cls.app_port}; location / {{ return 200 '{answer}'; }} }}"
        cls.start(Nginx(cls.directory, "nginx", cls.app_port, site))

    def setUp(self):
        self.issuer = NodeApp(self.directory, "issuer", keep_input=True)
        self.addCleanup(self.issuer.stop)
        self.answers = 1  # lines of its output that were read
        for algorithm in ALGORITHMS:
            self.order("generate", alg=algorithm, kid=f"first-{algorithm}")
        # As in real key sets, one key is of an unsupported kind; the others must stay usable.
        self.order("generate", alg="ES512", kid="first-ES512")

    def order(self, do: str, **what) -> dict:
        """Sends a command to the issuer and returns its reply."""
        self.issuer.child.stdin.write(json.dumps({"do": do, **what}).encode() + b"\n")
        self.issuer.child.stdin.flush()

        def answer():
            lines = self.issuer.stdout.read_text().split("\n")
            return lines[self.answers] if len(lines) > self.answers + 1 else None

        line = wait_for(f"an answer to `{do}`\n{self.issuer.text()}", answer)
        self.answers += 1
        result = json.loads(line)
        self.assertNotIn("error", result)
        return result

    def token(self, kid: str = "first-RS256", header: dict | None = None, **claims) -> str:
        claims = {"sub": "carol", "aud": AUDIENCE, "realm": {"roles": ["user", "ops"]}, **claims}
        return self.order("token", kid=kid, claims=claims, header=header or {})["token"]

    def gateway(self, name: str = "passgate", more: str = "", until_ready: bool = True) -> Gateway:
        toml = f"""
        [server]
        listen = "127.0.0.1:0"
        public_url = "http://gateway.test"
        [admin]
        listen = "127.0.0.1:0"
        [state]
        url = "sqlite:{self.directory}/{self.id()}.db"
        [issuers.corp]
        issuer = "{self.issuer.hello["issuer"]}"
        discovery = true
        audiences = ["{AUDIENCE}"]
        algorithms = ["RS256", "PS384", "ES256", "ES384", "EdDSA"]
        roles_claims = ["realm.roles"]
        refresh_cooldown = "1s"
        {more}
        [upstreams.app]
        servers = ["http://127.0.0.1:{self.app_port}"]
        [[routes]]
        path = "/*"
        roles = ["user"]
        upstream = "app"
        [[routes]]
        path = "/optional"
        auth = "optional"
        upstream = "app"
        """
        gateway = Gateway(self.directory, toml, name, until_ready=until_ready)
        self.addCleanup(gateway.stop)
        return gateway

    def ask(self, gateway: Gateway, token: str, path: str = "/"):
        return request(gateway.port, "GET", path, bearer(token))

    def until_known(self, gateway: Gateway, token: str):
        """The keys are fetched in the background, so the first request may come before them."""
        wait_for(f"the issuer's keys\n{gateway.text()}", lambda: self.ask(gateway, token).status == 200)

    def test_its_tokens_verify_by_discovery_for_every_algorithm(self):
        gateway = self.gateway()
        self.until_known(gateway, self.token())
        for algorithm in ALGORITHMS:
            with self.subTest(algorithm):
                answer = self.ask(gateway, self.token(f"first-{algorithm}"))
                self.assertDoneBy(gateway, answer, 200)
                self.assertEqual(answer.json(), {"user": "carol", "roles": "user,ops", "issuer": "corp"})

    def test_token_defects_are_found_for_every_key(self):
        gateway = self.gateway()
        self.until_known(gateway, self.token())
        good = self.token()
        wrong = {
            "another audience": self.token(aud="other"),
            "no audience": self.token(aud=None),
            "another issuer": self.token(iss="http://127.0.0.1:1"),
            "expired": self.token(exp=1_000_000_000),
            "exp as a string": self.token(exp="9999999999"),
            "not yet": self.token(nbf=9_999_999_999),
            "no subject": self.token(sub=None),
            "an empty subject": self.token(sub=""),
            "a subject that is a number": self.token(sub=7),
            "an algorithm that is not on the list": self.token("first-ES512"),
            "another body": ".".join([good.split(".")[0], self.token(sub="root").split(".")[1], good.split(".")[2]]),
            "no signature": good.rpartition(".")[0] + ".",
        }
        for what, token in wrong.items():
            for path in ("/", "/optional"):
                with self.subTest(what, path=path):
                    answer = self.ask(gateway, token, path)
                    self.assertDoneBy(gateway, answer, 401)
                    self.assertIn('error="invalid_token"', answer.fields["www-authenticate"])
        self.assertDoneBy(gateway, self.ask(gateway, self.token(realm={"roles": ["guest"]})), 403)
        self.assertDoneBy(gateway, self.ask(gateway, self.token(aud=["x", AUDIENCE])), 200)

    def test_new_key_is_fetched_for_its_first_token(self):
        gateway = self.gateway()
        old = self.token()
        self.until_known(gateway, old)
        self.order("generate", alg="RS256", kid="second")
        new = self.token("second")
        wait_for(f"the new key\n{gateway.text()}", lambda: self.ask(gateway, new).status == 200, 15)
        self.assertDoneBy(gateway, self.ask(gateway, old), 200)

    def test_withdrawn_key_is_refused(self):
        gateway = self.gateway(more='refresh_interval = "2s"')
        old = self.token()
        self.until_known(gateway, old)
        self.order("forget")
        self.order("generate", alg="RS256", kid="second")
        self.until_known(gateway, self.token("second"))
        wait_for("the withdrawn key refused", lambda: self.ask(gateway, old).status == 401, 15)

    def test_unknown_keys_do_not_flood_the_issuer(self):
        gateway = self.gateway()
        self.until_known(gateway, self.token())
        stranger = self.token(header={"kid": "nobody"})
        before = self.order("fetches")["jwks"]

        def ask():
            for _ in range(50):
                self.assertEqual(self.ask(gateway, stranger).status, 401)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # 400 requests in about a second, one fetch a second.
        self.assertLessEqual(self.order("fetches")["jwks"] - before, 5)
        self.assertDoneBy(gateway, self.ask(gateway, self.token()), 200)

    def test_outage_admits_no_unknown_key_and_keeps_known_ones(self):
        gateway = self.gateway(more='refresh_interval = "2s"')
        known, another = self.token(), self.token(sub="dave")
        self.until_known(gateway, known)
        self.order("generate", alg="RS256", kid="second")
        unknown = self.token("second")
        forged = self.token(header={"kid": "first-ES256"})
        self.order("stop")
        for turn in range(30):  # over several refreshes that fail
            self.assertDoneBy(gateway, self.ask(gateway, known), 200)
            self.assertDoneBy(gateway, self.ask(gateway, another), 200)  # not from the token cache
            self.assertDoneBy(gateway, self.ask(gateway, unknown), 401)
            self.assertDoneBy(gateway, self.ask(gateway, forged), 401)
            if turn < 29:
                threading.Event().wait(0.1)
        self.order("start")
        wait_for("the issuer found again", lambda: self.ask(gateway, unknown).status == 200, 20)

    def test_restart_during_an_outage_uses_the_keys_on_disk(self):
        gateway = self.gateway("before")
        token = self.token()
        self.until_known(gateway, token)
        self.assertEqual(gateway.stop(), 0, gateway.text())
        self.order("stop")
        again = self.gateway("after")
        self.assertDoneBy(again, self.ask(again, token), 200)
        self.assertDoneBy(again, self.ask(again, token[:-4] + "AAAA"), 401)

    def test_start_without_keys_is_immediate_and_refuses_tokens(self):
        token = self.token()
        self.order("stop")
        # Without keys the gateway is not ready, but it listens, and its status says that the fault is not the client's.
        gateway = self.gateway("cold", until_ready=False)
        self.assertDoneBy(gateway, self.ask(gateway, token), 503)
        self.order("start")
        wait_for(f"the keys at last\n{gateway.text()}", lambda: self.ask(gateway, token).status == 200, 60)
