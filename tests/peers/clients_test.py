"""Real clients: curl and nghttp2's h2load over HTTP/1.1, HTTP/2 in the clear, and TLS with ALPN."""

import json

from harness import Authority, Gateway, Nginx, PeerTest, base, free_port, h2load, run, wait_for

# The app answers with the identity headers that it got.
SEEN = {
    "user": "$http_x_auth_user",
    "roles": "$http_x_auth_roles",
    "issuer": "$http_x_auth_issuer",
    "host": "$http_host",
    "authorization": "$http_authorization",
    "proto": "$http_x_forwarded_proto",
    "for": "$http_x_forwarded_for",
}
APP = """
server {{
    listen 127.0.0.1:{port};
    keepalive_requests 1000000;
    default_type application/json;
    client_max_body_size 8m;
    location / {{ return 200 '{seen}'; }}
    # Reads the whole body before it answers; the above answers before it has read any of it.
    location /patient {{ proxy_pass http://127.0.0.1:{port}/; }}
}}
"""

ROUTES = """
[upstreams.app]
servers = ["http://127.0.0.1:{port}"]
[[routes]]
path = "/*"
upstream = "app"
[[routes]]
path = "/admin/*"
roles = ["admin"]
upstream = "app"
[[routes]]
path = "/public/*"
auth = "none"
upstream = "app"
"""


class Clients(PeerTest):
    LOAD = ("-n", "20000", "-c", "32")

    @classmethod
    def prepare(cls):
        port = free_port()
        cls.start(Nginx(cls.directory, "nginx", port, APP.format(port=port, seen=json.dumps(SEEN))))
        cls.authority = Authority(cls.directory)
        one = cls.authority.issue("one.test", "DNS:localhost", "IP:127.0.0.1")
        two = cls.authority.issue("two.test")
        routes = ROUTES.format(port=port)
        cls.plain = cls.start(Gateway(cls.directory, base(cls.directory, cls.signer) + routes, "plain"))
        tls = f"""
        [server.tls]
        certificate = "{one[0]}"
        private_key = "{one[1]}"
        more = [{{ certificate = "{two[0]}", private_key = "{two[1]}" }}]
        """
        cls.tls = cls.start(Gateway(cls.directory, base(cls.directory, cls.signer) + tls + routes, "tls"))
        cls.token = cls.signer.token("alice", ["user", "ops"])
        cls.way = {
            "HTTP/1.1": (cls.plain, ["--http1.1"], "1.1"),
            "HTTP/2 by prior knowledge": (cls.plain, ["--http2-prior-knowledge"], "2"),
            "TLS, HTTP/1.1": (cls.tls, ["--http1.1"], "1.1"),
            "TLS, HTTP/2": (cls.tls, ["--http2"], "2"),
            "TLS 1.2": (cls.tls, ["--http2", "--tls-max", "1.2"], "2"),
            "TLS 1.3": (cls.tls, ["--http2", "--tlsv1.3"], "2"),
        }

    def curl(
        self, gateway: Gateway, path: str, *arguments, token: str | None = None, host: str = "localhost"
    ) -> tuple[int, str, str]:
        """Status, HTTP version and body."""
        fields = ["-H", f"Authorization: Bearer {token}"] if token else []
        done = run(
            "curl", "-sS", "--cacert", self.authority.certificate, "--resolve", f"{host}:{gateway.port}:127.0.0.1", *fields,
            *arguments, "-w", "\n%{http_code} %{http_version}", f"{gateway.scheme}://{host}:{gateway.port}{path}",
        )  # fmt: skip
        body, _, last = done.stdout.rpartition("\n")
        status, version = last.split()
        return int(status), version, body

    def test_app_sees_the_caller_over_each_version(self):
        for name, (gateway, arguments, version) in self.way.items():
            with self.subTest(name):
                spoof = ["-H", "X-Auth-User: mallory", "-H", "x_auth_user: mallory", "-H", "X-Auth-Roles: admin"]
                spoof += ["-H", "X-Forwarded-For: 10.9.9.9"]
                status, spoken, body = self.curl(gateway, "/any", *arguments, *spoof, token=self.token)
                self.assertEqual((status, spoken), (200, version))
                seen = json.loads(body)
                self.assertEqual((seen["user"], seen["roles"], seen["issuer"]), ("alice", "user,ops", "test"))
                self.assertEqual(seen["authorization"], "", "the token was consumed")
                self.assertEqual(seen["host"], f"localhost:{gateway.port}")
                self.assertEqual(seen["proto"], gateway.scheme)
                self.assertEqual(seen["for"], "127.0.0.1")

    def test_refusals_over_each_version(self):
        for name, (gateway, arguments, version) in self.way.items():
            for path, token, expected in [
                ("/any", None, 401),
                ("/any", "rubbish", 401),
                ("/any", self.signer.token(expires_in=-3600), 401),
                ("/admin", self.token, 403),
                ("/admin/x", self.token, 403),
                ("/administrator", self.token, 200),
                ("/public/x", None, 200),
                ("/public/%2e%2e/admin", None, 400),
            ]:
                with self.subTest(name, path=path, expected=expected):
                    status, spoken, body = self.curl(gateway, path, *arguments, "--path-as-is", token=token)
                    self.assertEqual((status, spoken), (expected, version), body)

    def test_public_route_sends_no_identity_of_the_client(self):
        _, _, body = self.curl(self.plain, "/public", "-H", "X-Auth-User: mallory", token=self.token)
        self.assertEqual(json.loads(body)["user"], "")

    def test_a_post_over_each_version(self):
        body = self.directory / "post"
        body.write_bytes(bytes(300_000))
        for name, (gateway, arguments, _) in self.way.items():
            with self.subTest(name):
                status = self.curl(gateway, "/patient", *arguments, "--data-binary", f"@{body}", token=self.token)[0]
                self.assertEqual(status, 200)

    def test_an_answer_before_the_end_of_the_body_arrives_over_each_version(self):
        """nginx answers this POST from its head alone. The client gets that answer while its body is still being sent."""
        body = self.directory / "post"
        body.write_bytes(bytes(300_000))
        for name, (gateway, arguments, _) in self.way.items():
            for turn in range(5):
                with self.subTest(name, turn=turn):
                    status = self.curl(gateway, "/any", *arguments, "--data-binary", f"@{body}", token=self.token)[0]
                    self.assertEqual(status, 200)

    def test_expect_continue(self):
        body = self.directory / "expect"
        body.write_bytes(bytes(100_000))
        send = ["--http1.1", "-H", "Expect: 100-continue", "--data-binary", f"@{body}"]
        self.assertEqual(self.curl(self.plain, "/any", *send, token=self.token)[0], 200)
        self.assertEqual(self.curl(self.plain, "/any", *send)[0], 401)

    def test_head_has_no_body_and_the_connection_goes_on(self):
        done = run(
            "curl", "-sS", "-I", "-H", f"Authorization: Bearer {self.token}", f"{self.plain.url}/a", f"{self.plain.url}/b",
            "-w", "%{num_connects} ",
        )  # fmt: skip
        self.assertEqual(done.stdout.count("HTTP/1.1 200"), 2, done.stdout)
        self.assertIn("0 ", done.stdout.splitlines()[-1], "the second request used the first one's connection")

    def test_the_certificate_follows_the_name(self):
        for host in ("one.test", "two.test"):
            with self.subTest(host):
                self.assertEqual(
                    self.curl(self.tls, "/public", host=host)[0], 200, "curl checks the name in the certificate"
                )

    def test_a_host_other_than_the_name_in_the_handshake_is_misdirected(self):
        for version in ("--http1.1", "--http2"):
            with self.subTest(version):
                host = f"Host: two.test:{self.tls.port}"
                self.assertEqual(self.curl(self.tls, "/public", version, "-H", host, host="one.test")[0], 421)

    def test_tls_1_1_is_not_spoken(self):
        with self.assertRaises(AssertionError):
            self.curl(self.tls, "/public", "--tls-max", "1.1")

    def test_plain_http_on_the_tls_port_is_answered_in_plain_http(self):
        said = run("curl", "-sS", "-i", "--max-time", "10", f"http://127.0.0.1:{self.tls.port}/public").stdout
        self.assertTrue(said.startswith("HTTP/1.1 400 "), said)
        self.assertIn("This port speaks HTTPS", said)
        self.assertEqual(self.curl(self.tls, "/public")[0], 200)

    def load(self, gateway: Gateway, *arguments: str):
        # The name in the certificate; h2load does not check it, the gateway compares it with the Host.
        url = f"{gateway.scheme}://localhost:{gateway.port}/any"
        counts = h2load(url, *self.LOAD, *arguments, "-H", f"Authorization: Bearer {self.token}")
        self.assertEqual((counts["succeeded"], counts["2xx"]), (20000, 20000), counts["text"])
        self.assertEqual((counts["failed"], counts["errored"], counts["timeout"]), (0, 0, 0), counts["text"])

    def test_load_over_http_1(self):
        self.load(self.plain, "--h1")

    def test_load_over_http_1_pipelined(self):
        self.load(self.plain, "--h1", "-m", "4")

    def test_load_over_http_2(self):
        self.load(self.plain, "-m", "16")

    def test_load_over_tls_and_http_1(self):
        self.load(self.tls, "--h1")

    def test_load_over_tls_and_http_2(self):
        self.load(self.tls, "-m", "16")

    def test_served_requests_are_logged_and_counted(self):
        before = len(self.plain.log())
        counts = h2load(
            f"{self.plain.url}/any?secret=1", "--h1", "-n", "1000", "-c", "8", "-H", f"Authorization: Bearer {self.token}"
        )  # fmt: skip
        self.assertEqual(counts["2xx"], 1000, counts["text"])
        wait_for("1000 lines more", lambda: len(self.plain.log()) >= before + 1000)
        line = self.plain.log()[-1]
        expected = {"method": "GET", "subject": "alice", "issuer": "test", "status": 200}
        self.assertEqual({name: line[name] for name in expected}, expected, line)
        self.assertTrue(line["path"].startswith("/any"), line)
        others = "time request_id client host route decision reason rule bytes upstream duration_us upstream_us"
        self.assertEqual([name for name in others.split() if name not in line], [], line)
        self.assertNotIn(self.token, self.plain.stdout.read_text())
        self.assertIn("passgate", self.plain.metrics())
