"""Tests of the page `docs/forward-auth.md`: its configurations with the real nginx, HAProxy, Caddy and Envoy, and with a proxy that
does what Traefik's documentation says.

Only names, ports and paths of files are replaced. The app answers with the request as it arrived, so that the tests see what a
client's field has become.
"""

import http.client
import http.cookies
import http.server
import json
import re
import shutil
import socket
import ssl
import subprocess
import textwrap
import threading
import time
import unittest
import urllib.parse

from behind_test import EMAIL, PASSWORD, blocks, caddy, exchanged
from harness import PATIENCE, Answer, Authority, Gateway, PeerTest, Process, Signer, binary, free_port, wait_for

PAGE = "forward-auth.md"
IDENTITY = ["x-auth-user", "x-auth-email", "x-auth-name", "x-auth-roles", "x-auth-issuer"]
BROWSER = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


class App:
    """An app that answers every request with its method, target and fields as JSON."""

    def __init__(self):
        app = self
        self.requests = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                self.rfile.read(int(self.headers.get("content-length") or 0))
                seen = {"method": self.command, "target": self.path, "fields": self.headers.items()}
                app.requests.append(seen)
                body = json.dumps(seen).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = answer

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class ForwardAuth:
    """The tests for every proxy; each proxy is a class below."""

    # The status of a refusal for which the proxy has no answer of its own.
    odd_path = {400}
    smuggled = {400}
    client = "127.0.0.1"

    @classmethod
    def prepare(cls):
        cls.app = cls.start(App())
        cls.authority = Authority(cls.directory)
        cls.certificate, cls.key = cls.authority.issue("localhost")
        cls.tls, cls.inner = free_port(), free_port()
        cls.origin = f"https://localhost:{cls.tls}"
        cls.signer = Signer(cls.directory)
        toml = exchanged(
            blocks(PAGE, "toml")[0],
            {
                "127.0.0.1:8080": f"127.0.0.1:{cls.inner}",
                "https://app.example.com": cls.origin,
                "[password]": f'[session]\ntoken_lifetime = "{cls.token_lifetime}"\n[password]\n'
                '[issuers.test]\nissuer = "https://issuer.test"\naudiences = ["api"]\nalgorithms = ["RS256"]\n'
                f'public_key_file = "{cls.signer.public_key}"\nroles_claims = ["roles"]\n' + cls.further_toml(),
            },
        )
        toml += f'\n[admin]\nlisten = "127.0.0.1:0"\n[state]\nurl = "sqlite:{cls.directory}/passgate.db"\n'
        config = cls.directory / "passgate.toml"
        config.write_text(toml)
        subprocess.run(
            [binary(), "user", "add", EMAIL, "--role", "user", "-c", config],
            input=f"{PASSWORD}\n", text=True, check=True, capture_output=True, timeout=60,
        )  # fmt: skip
        cls.gateway = cls.start(Gateway(cls.directory, toml))
        cls.proxy = cls.start(cls.start_proxy())
        wait_for(f"the proxy\n{cls.proxy.text()}", cls.answers)

    token_lifetime = "15m"

    @classmethod
    def further_toml(cls) -> str:
        return ""

    @classmethod
    def start_proxy(cls):
        raise NotImplementedError

    @classmethod
    def answers(cls) -> bool:
        if cls.proxy.child.poll() is not None:
            raise AssertionError(f"the proxy ended\n{cls.proxy.text()}")
        try:
            return cls.ask("GET", "/auth/login").status == 200
        except OSError:
            return False

    @classmethod
    def wire(cls) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=str(cls.authority.certificate))
        plain = socket.create_connection(("127.0.0.1", cls.tls), PATIENCE)
        return context.wrap_socket(plain, server_hostname="localhost")

    @classmethod
    def ask(cls, method: str, target: str, fields=(), body: bytes = b"", host: str | None = None) -> Answer:
        """One request, with its target and fields exactly as they are here."""
        fields = list(fields.items() if isinstance(fields, dict) else fields)
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host or f'localhost:{cls.tls}'}", "Connection: close"]
        if body or method in ("POST", "PUT"):
            lines.append(f"Content-Length: {len(body)}")
        lines += [f"{name}: {value}" for name, value in fields]
        with cls.wire() as wire:
            wire.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body)
            response = http.client.HTTPResponse(wire, method=method)
            response.begin()
            return Answer(response)

    def bearer(self, *roles: str) -> list:
        return [("Authorization", f"Bearer {self.signer.token(roles=roles)}")]

    def seen(self, answer: Answer) -> dict:
        """The request as the app got it; names of fields in lower case, and none twice."""
        self.assertEqual(answer.status, 200, f"{answer.body}\n{self.proxy.text()}\n{self.gateway.text()}")
        seen = answer.json()
        names = [name.lower() for name, _ in seen["fields"]]
        self.assertEqual(len(names), len(set(names)), seen)
        seen["fields"] = {name.lower(): value for name, value in seen["fields"]}
        return seen

    def refused(self, answer: Answer, statuses):
        self.assertIn(answer.status, statuses, f"{answer.body}\n{self.proxy.text()}\n{self.gateway.text()}")

    def never_reaches_the_app(self, statuses, method: str, target: str, fields, **more):
        before = len(self.app.requests)
        self.refused(self.ask(method, target, fields, **more), statuses)
        self.assertEqual(self.app.requests[before:], [])

    @classmethod
    def sign_in(cls, return_to: str = "/x?y=1") -> str:
        """The session cookie, as in the field `Cookie`."""
        body = urllib.parse.urlencode({"email": EMAIL, "password": PASSWORD, "return_to": return_to}).encode()
        fields = {"Content-Type": "application/x-www-form-urlencoded", "Origin": cls.origin, **BROWSER}
        answer = cls.ask("POST", "/auth/login", fields, body)
        assert answer.status == 303, (answer.status, answer.body, cls.gateway.text())
        [cookie] = http.cookies.SimpleCookie(answer.fields["set-cookie"]).values()
        return f"{cookie.key}={cookie.value}"

    def test_request_with_token_has_identity_and_other_fields_stay(self):
        answer = self.ask("GET", "/admin/a?b=%20c", [*self.bearer("admin"), ("X-Other", "kept")])
        seen = self.seen(answer)
        self.assertEqual((seen["method"], seen["target"]), ("GET", "/admin/a?b=%20c"))
        fields = seen["fields"]
        self.assertEqual((fields["x-auth-user"], fields["x-auth-roles"]), ("alice", "admin"))
        self.assertEqual((fields["x-auth-issuer"], fields["x-other"]), ("test", "kept"))
        self.assertFalse(fields.get("x-auth-email"))
        posted = self.seen(self.ask("POST", "/a", self.bearer("user"), b"x" * 100_000))
        self.assertEqual(posted["method"], "POST")

    def test_request_that_may_not_pass_never_reaches_the_app(self):
        for method, target, fields, statuses in (
            ("GET", "/a", [], {401}),
            ("POST", "/a", [], {401}),
            ("GET", "/admin/a", self.bearer("user"), {403}),
            ("GET", "/a", [("Authorization", "Bearer bad")], {401}),
            ("GET", "/open/a", [("Authorization", "Bearer bad")], {401}),
        ):
            with self.subTest(f"{method} {target}"):
                self.never_reaches_the_app(statuses, method, target, fields)

    def test_browser_signs_in_and_comes_back(self):
        answer = self.ask("GET", "/x?y=1", BROWSER)
        self.redirects_to_sign_in(answer)
        cookie = self.sign_in(f"{self.origin}/x?y=1")
        fields = self.seen(self.ask("GET", "/x?y=1", {**BROWSER, "Cookie": cookie}))["fields"]
        self.assertEqual((fields["x-auth-email"], fields["x-auth-issuer"]), (EMAIL, "session"))
        self.never_reaches_the_app({403}, "POST", "/x", {"Cookie": cookie, "Origin": "https://evil.example"})
        self.seen(self.ask("POST", "/x", {"Cookie": cookie, "Origin": self.origin}))
        signed_out = self.ask("POST", "/auth/logout", {"Cookie": cookie, "Origin": self.origin, "Accept": "*/*"})
        self.assertIn(signed_out.status, (200, 204, 303))
        self.redirects_to_sign_in(self.ask("GET", "/x?y=1", {**BROWSER, "Cookie": cookie}))

    def redirects_to_sign_in(self, answer: Answer):
        self.refused(answer, {302})
        location = urllib.parse.unquote(answer.fields["location"])
        self.assertEqual(location, f"{self.origin}/auth/login?return_to={self.origin}/x?y=1")

    def test_handshake_of_another_site_is_refused(self):
        cookie = self.sign_in()
        handshake = {
            "Cookie": cookie,
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version": "13",
        }
        self.never_reaches_the_app({403}, "GET", "/ws", {**handshake, "Origin": "https://evil.example"})
        before = len(self.app.requests)
        self.ask("GET", "/ws", {**handshake, "Origin": self.origin})
        self.assertEqual([seen["target"] for seen in self.app.requests[before:]], ["/ws"])

    def test_session_is_cut_out_of_the_cookies_for_the_app(self):
        cookie = self.sign_in()
        for line, left in (
            (cookie, {""}),
            (f"a=1; {cookie}", {"a=1", "a=1;", "a=1; "}),
            (f"{cookie}; b=2", {"b=2", "; b=2"}),
            (f"a=1; {cookie}; b=2", {"a=1; b=2"}),
            ("a=1", {"a=1"}),
        ):
            with self.subTest(line.replace(cookie, "SESSION")):
                target, more = ("/open/a", []) if cookie not in line else ("/a", [])
                fields = self.seen(self.ask("GET", target, [("Cookie", line), *more]))["fields"]
                self.assertIn(fields.get("cookie", "").strip(), {text.strip() for text in left})

    def test_identity_of_the_client_never_reaches_the_app(self):
        forged = [
            ("X-Auth-User", "mallory"),
            ("x-auth-email", "mallory@example.com"),
            ("X-Auth-Name", "mallory"),
            ("X-AUTH-ROLES", "admin"),
            ("X-Auth-Issuer", "mallory"),
            ("X-Auth-Assertion", "mallory"),
            ("X-Auth-Access-Token", "mallory"),
            ("X_Auth_User", "mallory"),
            ("X_Auth_Roles", "admin"),
            ("X-HTTP-Method-Override", "DELETE"),
        ]
        for fields in ([], self.bearer("user")):
            with self.subTest(signed_in=bool(fields)):
                seen = self.seen(self.ask("GET", "/open/a", [*fields, *forged]))["fields"]
                self.assertNotIn("mallory", json.dumps(seen))
                self.assertNotIn("x-http-method-override", {name for name, value in seen.items() if value})
                for name, value in seen.items():
                    if re.sub("[^a-z]", "-", name).startswith("x-auth") and not fields:
                        self.assertEqual(value, "", name)
                self.assertNotEqual(seen.get("x-auth-roles"), "admin")

    def test_client_cannot_describe_another_request(self):
        tokens = self.bearer("user")
        for smuggled in (
            [("X-Forwarded-Uri", "/open/a")],
            [("X-Forwarded-Uri", "/open/a"), ("X-Forwarded-Method", "GET"), ("X-Forwarded-Host", "localhost")],
            [("X-Original-URL", f"{self.origin}/open/a")],
            [("X-Original-URL", f"{self.origin}/open/a"), ("X-Original-Method", "GET")],
            [("X-Original-URL", f"{self.origin}/open/a")] * 2,
            [("X-Original-Method", "HEAD"), ("X-Forwarded-Method", "HEAD")],
            [("X-Forwarded-Host", "evil.example")],
            [("X-Original-URI", "/open/a"), ("X-Rewrite-URL", "/open/a")],
            [("Connection", "X-Original-URL, X-Original-Method, X-Forwarded-Uri")],
        ):
            with self.subTest(smuggled):
                self.never_reaches_the_app({403, *self.smuggled}, "GET", "/admin/a", [*tokens, *smuggled])
                self.never_reaches_the_app({401, *self.smuggled}, "GET", "/a", smuggled)

    def test_host_of_the_client_does_not_choose_the_decision(self):
        for host in ("evil.example", "localhost.evil.example", "localhost:1"):
            with self.subTest(host):
                answer = self.ask("GET", "/x?y=1", BROWSER, host=host)
                location = answer.fields.get("location", "")
                self.assertNotIn("evil", urllib.parse.unquote(location))

    def test_path_with_two_readings_never_reaches_the_app(self):
        tokens = self.bearer("user")
        for target in (
            "/open/../admin/a",
            "/open/%2e%2e/admin/a",
            "/open/..;/admin/a",
            "/open/%2e./a",
            "//admin/a",
            "/open//../admin/a",
            "/open;x/../admin/a",
            "/a;x",
            "/open/%2f../admin",
            "/open/..%5cadmin",
            "/%61dmin/a",
            "/admin%2fa",
        ):
            with self.subTest(target):
                self.never_reaches_the_app({403, 404, *self.odd_path}, "GET", target, tokens)

    def test_question_of_a_client_is_not_answered(self):
        fields = [
            *self.bearer("admin"),
            ("X-Original-URL", f"{self.origin}/admin/a"),
            ("X-Original-Method", "GET"),
            ("X-Forwarded-Uri", "/admin/a"),
            ("X-Forwarded-Method", "GET"),
        ]
        for target in ("/auth/verify", "/auth/verify?redirect", "/auth/verify/admin/a", "/auth/%76erify", "/auth//verify"):
            with self.subTest(target):
                before = len(self.app.requests)
                answer = self.ask("GET", target, fields)
                self.assertNotEqual(answer.status, 200)
                self.assertNotIn("x-auth-user", answer.fields)
                self.assertEqual(self.app.requests[before:], [])

    def test_log_has_the_request_that_was_asked_about(self):
        mark = f"/log-{time.monotonic_ns()}"
        self.seen(self.ask("PUT", f"{mark}?q", self.bearer("user")))
        line = wait_for("the log line", lambda: next((line for line in self.gateway.log() if line["path"] == mark), None))
        self.assertEqual((line["method"], line["forward_auth"], line["subject"]), ("PUT", True, "alice"))
        self.assertEqual(line["host"].split(":")[0], "localhost")
        self.assertEqual(line["client"], self.client)


class RenewedSession:
    """For proxies that hand `Set-Cookie` of the answer on."""

    token_lifetime = "2s"

    def test_renewed_session_reaches_the_browser(self):
        cookie = self.sign_in()

        def renewed():
            answer = self.ask("GET", "/x", {"Cookie": cookie})
            self.seen(answer)
            return answer.fields.get("set-cookie")

        new = wait_for("a renewed cookie", renewed)
        self.assertTrue(new.startswith("__Host-session="), new)
        self.assertNotIn(cookie, new)


class Nginx(RenewedSession, ForwardAuth, PeerTest):
    # What `auth_request` does not know is an error to it.
    odd_path = {400, 500}
    smuggled = {400, 500}

    @classmethod
    def server(cls) -> str:
        return exchanged(
            blocks(PAGE, "nginx")[1],
            {
                "listen 443 ssl http2;": f"listen 127.0.0.1:{cls.tls} ssl http2;",
                "/etc/letsencrypt/live/app.example.com/fullchain.pem": cls.certificate,
                "/etc/letsencrypt/live/app.example.com/privkey.pem": cls.key,
                "https://app.example.com": cls.origin,
                "app.example.com": "localhost",
                "127.0.0.1:8080": f"127.0.0.1:{cls.inner}",
                "127.0.0.1:3000": f"127.0.0.1:{cls.app.port}",
            },
        )

    @classmethod
    def start_proxy(cls):
        configuration = cls.directory / "nginx.conf"
        temporary = "\n".join(
            f"{kind}_temp_path {cls.directory}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        configuration.write_text(
            f"daemon off; user root; worker_processes 1; pid {cls.directory}/nginx.pid; error_log stderr warn;\n"
            f"events {{ }}\nhttp {{ access_log off; {temporary}\n{cls.server()}\n}}\n"
        )
        nginx = shutil.which("nginx") or "/usr/sbin/nginx"
        return Process("nginx", [nginx, "-p", cls.directory, "-c", configuration, "-e", "stderr"], cls.directory)


class NginxWithCache(Nginx):
    """The same with the section about a cache."""

    @classmethod
    def further_toml(cls) -> str:
        return exchanged(blocks(PAGE, "toml")[1], {'"5s"': '"60s"'})

    @classmethod
    def server(cls) -> str:
        zone, keys = blocks(PAGE, "nginx")[0].split("\n\n")
        zone = exchanged(zone, {"/var/cache/nginx/passgate": f"{cls.directory}/cache"})
        return zone + "\n" + exchanged(super().server(), {"internal;": "internal;\n" + keys})

    token_lifetime = "2s"

    # A session that ended is let through for as long as the answer is kept.
    test_browser_signs_in_and_comes_back = None

    def questions(self, path: str) -> int:
        return len([line for line in self.gateway.log() if line["path"] == path])

    def test_answer_is_kept_for_the_same_request_of_the_same_caller_alone(self):
        path = f"/open/kept-{time.monotonic_ns()}"
        token = self.bearer("user")
        for _ in range(3):
            self.seen(self.ask("GET", path, token))
        # The line of a later question proves that those of earlier ones are written.
        self.seen(self.ask("GET", f"{path}?other", token))
        wait_for("the second question", lambda: self.questions(path) >= 2)
        self.assertEqual(self.questions(path), 2)
        seen = self.seen(self.ask("GET", path, []))["fields"]
        self.assertFalse(seen.get("x-auth-user"))
        wait_for("the question without a token", lambda: self.questions(path) == 3)
        self.seen(self.ask("PUT", path, token))
        wait_for("the question about PUT", lambda: self.questions(path) == 4)

    def test_refusal_is_never_kept(self):
        path = f"/admin/refused-{time.monotonic_ns()}"
        token = self.bearer("user")
        for count in (1, 2, 3):
            self.never_reaches_the_app({403}, "GET", path, token)
            wait_for("the question", lambda count=count: self.questions(path) == count)


class IngressNginx(Nginx):
    """The locations that ingress-nginx makes of the annotations on the page."""

    @classmethod
    def annotations(cls) -> dict:
        return dict(re.findall(r"ingress\.kubernetes\.io/(\S+): (\S+)", blocks(PAGE, "yaml")[5]))

    @classmethod
    def question(cls) -> str:
        return urllib.parse.urlsplit(cls.annotations()["auth-url"]).path

    @classmethod
    def sign_in_page(cls) -> str:
        return exchanged(cls.annotations()["auth-signin"], {"$host": "$http_host"})

    @classmethod
    def server(cls) -> str:
        names = cls.annotations()["auth-response-headers"].split(",")
        copied = "".join(
            f"auth_request_set $auth{index} $upstream_http_{name.lower().replace('-', '_')};\n"
            f"proxy_set_header {name} $auth{index};\n"
            for index, name in enumerate(names)
        )
        return f"""
            server {{
                listen 127.0.0.1:{cls.tls} ssl;
                ssl_certificate {cls.certificate};
                ssl_certificate_key {cls.key};
                location = /_external-auth {{
                    internal;
                    proxy_pass_request_body off;
                    proxy_set_header Content-Length "";
                    proxy_set_header X-Forwarded-Proto "";
                    proxy_set_header Host passgate.passgate.svc.cluster.local;
                    proxy_set_header X-Original-URL $scheme://$http_host$request_uri;
                    proxy_set_header X-Original-Method $request_method;
                    proxy_set_header X-Sent-From nginx-ingress-controller;
                    proxy_set_header X-Real-IP $remote_addr;
                    proxy_set_header X-Forwarded-For $remote_addr;
                    proxy_set_header X-Auth-Request-Redirect $request_uri;
                    proxy_pass http://127.0.0.1:{cls.inner}{cls.question()};
                }}
                location @sign_in {{
                    return 302 {cls.sign_in_page()}?rd=$scheme://$http_host$request_uri;
                }}
                location / {{
                    auth_request /_external-auth;
                    {copied}
                    error_page 401 = @sign_in;
                    proxy_pass http://127.0.0.1:{cls.app.port};
                }}
                location ~ ^/(auth|oauth2) {{
                    proxy_set_header Host $http_host;
                    proxy_set_header X-Forwarded-Proto $scheme;
                    proxy_pass http://127.0.0.1:{cls.inner};
                }}
            }}"""

    def redirects_to_sign_in(self, answer: Answer):
        self.refused(answer, {302})
        self.assertEqual(answer.fields["location"], f"{self.origin}/auth/login?rd={self.origin}/x?y=1")
        page = self.ask("GET", answer.fields["location"].removeprefix(self.origin), BROWSER)
        self.assertEqual(page.status, 200)
        self.assertIn(f'value="{self.origin}/x?y=1"'.encode(), page.body)

    def test_request_that_may_not_pass_never_reaches_the_app(self):
        self.never_reaches_the_app({302}, "GET", "/a", [])
        self.never_reaches_the_app({403}, "GET", "/admin/a", self.bearer("user"))

    # What the page of the proxy is for, and the annotations are not.
    test_session_is_cut_out_of_the_cookies_for_the_app = None
    test_identity_of_the_client_never_reaches_the_app = None
    test_question_of_a_client_is_not_answered = None
    test_renewed_session_reaches_the_browser = None
    test_handshake_of_another_site_is_refused = None
    # A controller has a server for each host of an ingress.
    test_host_of_the_client_does_not_choose_the_decision = None

    def test_client_cannot_describe_another_request(self):
        for smuggled in (
            [("X-Forwarded-Uri", "/open/a"), ("X-Forwarded-Method", "GET"), ("X-Forwarded-Host", "localhost")],
            [("X-Original-URL", f"{self.origin}/open/a"), ("X-Original-Method", "GET")],
        ):
            self.never_reaches_the_app({403, 500}, "GET", "/admin/a", [*self.bearer("user"), *smuggled])


class IngressNginxOfOAuth2Proxy(IngressNginx):
    """The same with the annotations that oauth2-proxy's documentation gives."""

    @classmethod
    def further_toml(cls) -> str:
        return blocks(PAGE, "toml")[3]

    @classmethod
    def annotations(cls) -> dict:
        return {
            "auth-url": "https://$host/oauth2/auth",
            "auth-signin": "https://$host/oauth2/start",
            "auth-response-headers": "X-Auth-User,X-Auth-Email,X-Auth-Roles,X-Auth-Issuer,X-Auth-Request-User,X-Auth-Request-Groups",
        }

    def redirects_to_sign_in(self, answer: Answer):
        self.refused(answer, {302})
        self.assertEqual(answer.fields["location"], f"{self.origin}/oauth2/start?rd={self.origin}/x?y=1")
        started = self.ask("GET", answer.fields["location"].removeprefix(self.origin), BROWSER)
        self.refused(started, {302})
        self.assertEqual(
            urllib.parse.unquote(started.fields["location"]), f"/auth/login?return_to={self.origin}/x?y=1"
        )

    def test_names_of_oauth2_proxy_reach_the_app(self):
        fields = self.seen(self.ask("GET", "/admin/a", self.bearer("admin", "dev")))["fields"]
        self.assertEqual((fields["x-auth-request-user"], fields["x-auth-request-groups"]), ("alice", "admin,dev"))


class Haproxy(RenewedSession, ForwardAuth, PeerTest):
    @classmethod
    def start_proxy(cls):
        pem = cls.directory / "haproxy.pem"
        pem.write_bytes(cls.certificate.read_bytes() + cls.key.read_bytes())
        script = cls.directory / "passgate.lua"
        script.write_text(
            exchanged(
                blocks(PAGE, "lua")[0],
                {"https://app.example.com": cls.origin, "127.0.0.1:8080": f"127.0.0.1:{cls.inner}"},
            )
        )
        configuration = cls.directory / "haproxy.cfg"
        configuration.write_text(
            exchanged(
                blocks(PAGE, "haproxy")[0],
                {
                    "bind :443": f"bind 127.0.0.1:{cls.tls}",
                    "/etc/haproxy/app.example.com.pem": pem,
                    "/etc/haproxy/passgate.lua": script,
                    "127.0.0.1:8080": f"127.0.0.1:{cls.inner}",
                    "127.0.0.1:3000": f"127.0.0.1:{cls.app.port}",
                },
            )
        )
        haproxy = shutil.which("haproxy") or "/usr/sbin/haproxy"
        return Process("haproxy", [haproxy, "-db", "-f", configuration], cls.directory)


class Caddy(RenewedSession, ForwardAuth, PeerTest):
    @classmethod
    def start_proxy(cls):
        configuration = cls.directory / "Caddyfile"
        site = exchanged(
            blocks(PAGE, "caddyfile")[0],
            {
                "app.example.com {": f"{cls.origin} {{\n    bind 127.0.0.1\n    tls {cls.certificate} {cls.key}",
                "127.0.0.1:8080": f"127.0.0.1:{cls.inner}",
                "127.0.0.1:3000": f"127.0.0.1:{cls.app.port}",
            },
        )
        configuration.write_text("{\n    admin off\n    auto_https disable_redirects\n    persist_config off\n}\n" + site)
        command = [caddy(), "run", "--config", configuration, "--adapter", "caddyfile"]
        return Process("caddy", command, cls.directory, env={"HOME": str(cls.directory)})


class TraefikLike(http.server.BaseHTTPRequestHandler):
    """What Traefik's documentation says of `forwardAuth`, `headers` and routers, for the configuration on the page."""

    protocol_version = "HTTP/1.1"
    PER_HOP = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "proxy-authorization"}

    def handle_any(self):
        path = urllib.parse.unquote(self.path.split("?")[0])
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        fields = [(name, value) for name, value in self.headers.items() if not name.lower().startswith("x-forwarded-")]
        forwarded = [
            ("X-Forwarded-For", self.client_address[0]),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", self.headers["host"]),
        ]
        is_own = path == "/auth" or path.startswith("/auth/")
        if is_own and not path.startswith("/auth/verify"):
            return self.relay(self.gateway, self.path, [*fields, *forwarded], body)
        fields = [(name, value) for name, value in fields if name.lower() not in self.forged]
        question = [(name, value) for name, value in fields if name.lower() not in {*self.PER_HOP, "host", "content-length"}]
        question += [*forwarded, ("X-Forwarded-Method", self.command), ("X-Forwarded-Uri", self.path)]
        answer = self.exchange(self.gateway, "GET", self.question, [("Host", "passgate"), *question], b"")
        if not 200 <= answer.status < 300:
            return self.reply(answer, [])
        fields = [(name, value) for name, value in fields if name.lower() not in self.copied]
        given = [(name, value) for name, value in answer.getheaders() if name.lower() in self.copied]
        cookies = [
            (name, value)
            for name, value in answer.getheaders()
            if name.lower() == "set-cookie" and value.split("=")[0] in self.cookies
        ]
        self.relay(self.app, self.path, [*fields, *given, *forwarded], body, cookies)

    do_GET = do_POST = do_PUT = do_HEAD = handle_any

    def exchange(self, port, method, target, fields, body):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in fields:
            if name.lower() not in self.PER_HOP | {"content-length"}:
                connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        answer.content = answer.read()
        connection.close()
        return answer

    def relay(self, port, target, fields, body, more=()):
        self.reply(self.exchange(port, self.command, target, fields, body), more)

    def reply(self, answer, more):
        self.send_response(answer.status)
        for name, value in [*answer.getheaders(), *more]:
            if name.lower() not in {"content-length", "connection", "date", "server"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)
        self.close_connection = True

    def log_message(self, *_):
        pass


class Traefik(RenewedSession, ForwardAuth, PeerTest):
    # The page says that this proxy cannot.
    test_session_is_cut_out_of_the_cookies_for_the_app = None
    # What `X-Forwarded-Uri` says is a request with an odd path.
    odd_path = {400}

    @classmethod
    def start_proxy(cls):
        page = blocks(PAGE, "yaml")[0]

        class Handler(TraefikLike):
            gateway, app = cls.inner, cls.app.port
            question = re.search(r"address: http://[^/]+(\S+)", page)[1]
            copied = {name.lower() for name in re.search(r"authResponseHeaders: \[(.*)\]", page)[1].split(", ")}
            cookies = set(re.search(r"addAuthCookiesToResponse: \[(.*)\]", page)[1].split(", "))
            forged = {name.lower() for name in re.findall(r'^ +(X\S+): ""$', page, re.MULTILINE)}

        server = http.server.ThreadingHTTPServer(("127.0.0.1", cls.tls), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cls.certificate, cls.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return InThread(server)


class InThread:
    """A server of this process in the place of a child."""

    def __init__(self, server):
        self.server = server
        self.child = self

    def poll(self):
        return None

    def text(self) -> str:
        return ""

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Envoy(ForwardAuth, PeerTest):
    # The page says that this proxy cannot.
    test_session_is_cut_out_of_the_cookies_for_the_app = None
    # To Envoy, a client on loopback has the address of Envoy's node.
    client = "192.0.2.2"

    CONFIGURATION = """
static_resources:
  listeners:
    - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {tls} }} }}
      filter_chains:
        - transport_socket:
            name: envoy.transport_sockets.tls
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
              common_tls_context:
                tls_certificates:
                  - {{ certificate_chain: {{ filename: {certificate} }}, private_key: {{ filename: {key} }} }}
          filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: peers
                use_remote_address: true
                common_http_protocol_options: {{ headers_with_underscores_action: DROP_HEADER }}
                upgrade_configs: [{{ upgrade_type: websocket }}]
                http_filters:
{filters}
                  - name: envoy.filters.http.router
                    typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
                route_config:
{routes}
  clusters:
    - name: passgate
      connect_timeout: 2s
      load_assignment:
        cluster_name: passgate
        endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {inner} }} }} }} }}] }}]
    - name: app
      connect_timeout: 2s
      load_assignment:
        cluster_name: app
        endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {app} }} }} }} }}] }}]
{clusters}
"""

    @classmethod
    def clusters(cls) -> str:
        return ""

    @classmethod
    def filters(cls) -> str:
        return exchanged(blocks(PAGE, "yaml")[1], {"127.0.0.1:8080": f"127.0.0.1:{cls.inner}"})

    @classmethod
    def start_proxy(cls):
        routes = exchanged(
            blocks(PAGE, "yaml")[2], {"[app.example.com]": f'[localhost, "localhost:{cls.tls}", "localhost:1"]'}
        )
        configuration = cls.directory / "envoy.yaml"
        configuration.write_text(
            cls.CONFIGURATION.format(
                tls=cls.tls,
                inner=cls.inner,
                app=cls.app.port,
                certificate=cls.certificate,
                key=cls.key,
                filters=textwrap.indent(cls.filters(), " " * 18),
                clusters=textwrap.indent(cls.clusters(), " " * 4),
                routes=textwrap.indent(routes, " " * 18),
            )
        )
        envoy = shutil.which("envoy")
        if not envoy:
            raise AssertionError("no `envoy`; `tests/peers/run` installs it")
        command = [envoy, "-c", configuration, "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
        return Process("envoy", command, cls.directory)

    def redirects_to_sign_in(self, answer: Answer):
        self.refused(answer, {401})
        location = urllib.parse.unquote(answer.fields["location"])
        self.assertEqual(location, f"{self.origin}/auth/login?return_to={self.origin}/x?y=1")
        self.assertIn(b"/auth/login", answer.body)


class EnvoyByGrpc(RenewedSession, Envoy):
    # The page says that passgate has every spelling removed.
    CONFIGURATION = Envoy.CONFIGURATION.replace("DROP_HEADER", "ALLOW")
    test_session_is_cut_out_of_the_cookies_for_the_app = ForwardAuth.test_session_is_cut_out_of_the_cookies_for_the_app
    redirects_to_sign_in = ForwardAuth.redirects_to_sign_in

    @classmethod
    def further_toml(cls) -> str:
        return blocks(PAGE, "toml")[2]

    @classmethod
    def filters(cls) -> str:
        return blocks(PAGE, "yaml")[3]

    @classmethod
    def clusters(cls) -> str:
        return exchanged(blocks(PAGE, "yaml")[4], {"port_value: 8080": f"port_value: {cls.inner}"})

    def test_credential_is_not_for_the_app(self):
        fields = self.seen(self.ask("GET", "/a", self.bearer("user")))["fields"]
        self.assertNotIn("authorization", fields)


if __name__ == "__main__":
    unittest.main()
