"""Tests of the pages `docs/behind-*.md`: their configurations with the real proxies.

Only names, ports and paths of files are replaced. The client has the address 127.0.0.2 and the proxy 127.0.0.1, so that the tests can
tell which of them passgate uses as the client's address.
"""

import http.client
import http.cookies
import json
import os
import re
import shutil
import ssl
import subprocess
import urllib.parse

from harness import (
    APPS,
    PATIENCE,
    REPOSITORY,
    Answer,
    Authority,
    Gateway,
    NodeApp,
    PeerTest,
    Process,
    binary,
    free_port,
    run,
    wait_for,
)

EMAIL, PASSWORD = "alice@example.com", "correct horse battery"
CLIENT = "127.0.0.2"


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a language on a page of `docs`."""
    text = (REPOSITORY / "docs" / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def exchanged(text: str, changes: dict) -> str:
    """`text` with every key of `changes` replaced; each must occur, otherwise the page has changed."""
    for old, new in changes.items():
        if old not in text:
            raise AssertionError(f"`{old}` is not in\n{text}")
        text = text.replace(old, str(new))
    return text


class Behind:
    """The tests for every proxy; each proxy is a class below."""

    page: str

    @classmethod
    def prepare(cls):
        cls.app = cls.start(NodeApp(cls.directory, "streams"))
        cls.authority = Authority(cls.directory)
        cls.certificate, cls.key = cls.authority.issue("localhost")
        cls.tls, cls.plain, cls.inner = free_port(), free_port(), free_port()
        cls.origin = f"https://localhost:{cls.tls}"
        toml = cls.toml() + (
            f'\n[admin]\nlisten = "127.0.0.1:0"\n[state]\nurl = "sqlite:{cls.directory}/passgate.db"\n'
        )
        config = cls.directory / "passgate.toml"
        config.write_text(toml)
        subprocess.run(
            [binary(), "user", "add", EMAIL, "-c", config],
            input=f"{PASSWORD}\n", text=True, check=True, capture_output=True, timeout=60,
        )  # fmt: skip
        cls.gateway = cls.start(Gateway(cls.directory, toml))
        cls.proxy = cls.start(cls.start_proxy())
        wait_for(f"the proxy\n{cls.proxy.text()}", cls.answers)

    @classmethod
    def toml(cls) -> str:
        return exchanged(
            blocks(cls.page, "toml")[0],
            {
                "127.0.0.1:8080": f"127.0.0.1:{cls.inner}",
                "127.0.0.1:3000": f"127.0.0.1:{cls.app.port}",
                "https://app.example.com": cls.origin,
            },
        )

    @classmethod
    def start_proxy(cls) -> Process:
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
    def connect(cls) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=str(cls.authority.certificate))
        return http.client.HTTPSConnection(
            "localhost", cls.tls, timeout=PATIENCE, context=context, source_address=(CLIENT, 0)
        )

    @classmethod
    def ask(cls, method: str, path: str, headers: dict | None = None, body=None) -> Answer:
        connection = cls.connect()
        try:
            connection.request(method, path, body=body, headers=headers or {})
            return Answer(connection.getresponse())
        finally:
            connection.close()

    @classmethod
    def sign_in(cls) -> str:
        """The session cookie, as in the field `Cookie`."""
        body = urllib.parse.urlencode({"email": EMAIL, "password": PASSWORD, "return_to": "/headers?x=1"})
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": cls.origin}
        answer = cls.ask("POST", "/auth/login", headers, body)
        assert answer.status == 303, (answer.status, answer.body, cls.gateway.text())
        assert answer.fields["location"] == "/headers?x=1", answer.fields
        [cookie] = http.cookies.SimpleCookie(answer.fields["set-cookie"]).values()
        assert cookie.key == "__Host-session" and cookie["secure"], answer.fields
        return f"{cookie.key}={cookie.value}"

    def test_browser_without_session_gets_sign_in_and_program_401(self):
        self.assertEqual(self.ask("GET", "/headers").status, 401)
        browser = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        answer = self.ask("GET", "/headers?x=1", browser)
        self.assertEqual(answer.status, 302)
        location = urllib.parse.unquote(answer.fields["location"]).removeprefix(self.origin)
        self.assertEqual(location, "/auth/login?return_to=/headers?x=1")

    def test_forged_forwarding_fields_reach_neither_app_nor_log(self):
        cookie = self.sign_in()
        for forged in (
            {},
            {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "evil.example"},
            {"X-Forwarded-For": "127.0.0.1, 127.0.0.1", "X-Forwarded-Port": "1", "X-Real-IP": "203.0.113.9"},
            {"X-Auth-User": "mallory", "X_Auth_Roles": "admin", "Forwarded": "for=203.0.113.9;proto=http"},
        ):
            with self.subTest(forged):
                answer = self.ask("GET", "/headers", {"Cookie": cookie, **forged})
                self.assertDoneBy(self.gateway, answer, 200)
                fields = answer.json()
                self.assertEqual(fields["x-auth-email"], EMAIL)
                self.assertEqual(fields["x-forwarded-proto"], "https")
                self.assertEqual(fields["x-forwarded-host"], f"localhost:{self.tls}")
                self.assertEqual(fields["host"], f"localhost:{self.tls}")
                addresses = [part.strip() for part in fields["x-forwarded-for"].split(",")]
                self.assertIn(CLIENT, addresses)
                self.assertNotIn("mallory", json.dumps(fields))
                self.assertNotIn("x_auth_roles", fields)
                line = wait_for(
                    "the line of the log",
                    lambda id=fields["x-request-id"]: next(
                        (line for line in self.gateway.log() if line["request_id"] == id), None
                    ),
                )
                self.assertEqual(line["client"], CLIENT)

    def test_signing_in_from_another_site_is_refused_and_signing_out_holds(self):
        body = urllib.parse.urlencode({"email": EMAIL, "password": PASSWORD})
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": "https://evil.example"}
        self.assertEqual(self.ask("POST", "/auth/login", headers, body).status, 403)
        cookie = self.sign_in()
        answer = self.ask("POST", "/auth/logout", {"Cookie": cookie, "Origin": self.origin})
        self.assertIn(answer.status, (200, 204, 303))
        self.assertEqual(self.ask("GET", "/headers", {"Cookie": cookie}).status, 401)

    def test_a_large_upload_and_a_large_head_pass(self):
        fields = {"Cookie": self.sign_in(), "Origin": self.origin, "X-Large": "x" * 4096}
        answer = self.ask("POST", "/upload", fields, b"x" * (5 << 20))
        self.assertDoneBy(self.gateway, answer, 200)
        self.assertEqual(answer.json(), {"bytes": 5 << 20})

    def test_each_event_arrives_before_the_next_one_is_sent(self):
        cookie = self.sign_in()
        connection = self.connect()
        self.addCleanup(connection.close)
        connection.request("GET", "/events", headers={"Cookie": cookie, "Accept": "text/event-stream"})
        stream = connection.getresponse()
        self.assertEqual((stream.status, stream.getheader("content-type")), (200, "text/event-stream"))
        for _ in range(5):
            lines = [stream.readline() for _ in range(3)]
            self.assertRegex(lines[1], rb"^data: event \d+\n$")
            self.assertEqual(self.ask("POST", "/next", {"Cookie": cookie, "Origin": self.origin}).status, 200)

    def test_a_websocket(self):
        cookie = self.sign_in()
        done = run(
            "node", APPS / "ws_client.mjs", f"wss://localhost:{self.tls}/ws", "-", "100",
            f"Cookie: {cookie}", f"Origin: {self.origin}",
            env={**os.environ, "NODE_EXTRA_CA_CERTS": str(self.authority.certificate)},
        )  # fmt: skip
        result = json.loads(done.stdout)
        self.assertNotIn("error", result)
        self.assertEqual((result.get("texts"), result.get("binary"), result.get("pong")), (100, True, True), result)
        self.assertEqual(result["headers"]["x-auth-email"], EMAIL)

    def test_http_2_to_the_proxy(self):
        done = run(
            "curl", "-sS", "--cacert", self.authority.certificate, "--http2", "-4",
            "-o", "/dev/null", "-w", "%{http_version} %{http_code}", f"{self.origin}/headers",
        )  # fmt: skip
        self.assertEqual(done.stdout, "2 401")


class OverPlainHttp:
    """For proxies whose page has a listener on port 80."""

    def test_plain_http_is_redirected(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.plain, timeout=PATIENCE)
        self.addCleanup(connection.close)
        connection.request("GET", "/a/b?c=d", headers={"Host": "localhost"})
        answer = Answer(connection.getresponse())
        self.assertEqual((answer.status, answer.fields["location"]), (308, f"{self.origin}/a/b?c=d"))


class BehindNginx(OverPlainHttp, Behind, PeerTest):
    page = "behind-nginx.md"

    @classmethod
    def changes(cls) -> dict:
        return {
            "listen 80;": f"listen 127.0.0.1:{cls.plain};",
            "listen 443 ssl http2;": f"listen 127.0.0.1:{cls.tls} ssl http2;",
            "/etc/letsencrypt/live/app.example.com/fullchain.pem": cls.certificate,
            "/etc/letsencrypt/live/app.example.com/privkey.pem": cls.key,
            "https://app.example.com": cls.origin,
            "app.example.com": "localhost",
        }

    @classmethod
    def http_block(cls) -> str:
        return exchanged(
            blocks(cls.page, "nginx")[0], {"server 127.0.0.1:8080;": f"server 127.0.0.1:{cls.inner};", **cls.changes()}
        )

    @classmethod
    def start_proxy(cls) -> Process:
        configuration = cls.directory / "nginx.conf"
        temporary = "\n".join(
            f"{kind}_temp_path {cls.directory}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        configuration.write_text(
            f"daemon off; user root; worker_processes 1; pid {cls.directory}/nginx.pid; error_log stderr warn;\n"
            f"events {{ }}\nhttp {{ access_log off; {temporary}\n{cls.http_block()}\n}}\n"
        )
        nginx = shutil.which("nginx") or "/usr/sbin/nginx"
        return Process(
            "nginx", [nginx, "-p", cls.directory, "-c", configuration, "-e", "stderr"], cls.directory
        )


class BehindNginxBySocket(BehindNginx):
    """The section about a unix socket: its `[server]` and its `upstream` in place of those above."""

    @classmethod
    def toml(cls) -> str:
        whole, server = blocks(cls.page, "toml")
        cls.socket = cls.directory / "passgate.sock"
        return exchanged(
            server + whole[whole.index("[password]") :],
            {
                # An additional address, by which the tests know that the gateway listens.
                '"unix:/run/passgate/passgate.sock"': f'["unix:{cls.socket}", "127.0.0.1:0"]',
                "127.0.0.1:3000": f"127.0.0.1:{cls.app.port}",
                "https://app.example.com": cls.origin,
            },
        )

    @classmethod
    def http_block(cls) -> str:
        whole, upstream = blocks(cls.page, "nginx")
        whole = re.sub(r"(?ms)^upstream passgate \{.*?^\}\n", lambda _: upstream, whole, count=1)
        return exchanged(whole, {"unix:/run/passgate/passgate.sock": f"unix:{cls.socket}", **cls.changes()})


class BehindHaproxy(OverPlainHttp, Behind, PeerTest):
    page = "behind-haproxy.md"

    @classmethod
    def start_proxy(cls) -> Process:
        pem = cls.directory / "haproxy.pem"
        pem.write_bytes(cls.certificate.read_bytes() + cls.key.read_bytes())
        configuration = cls.directory / "haproxy.cfg"
        configuration.write_text(
            exchanged(
                blocks(cls.page, "haproxy")[0],
                {
                    "bind :80": f"bind 127.0.0.1:{cls.plain}",
                    "bind :443": f"bind 127.0.0.1:{cls.tls}",
                    "/etc/haproxy/app.example.com.pem": pem,
                    "https://app.example.com": cls.origin,
                    "127.0.0.1:8080": f"127.0.0.1:{cls.inner}",
                },
            )
        )
        haproxy = shutil.which("haproxy") or "/usr/sbin/haproxy"
        return Process("haproxy", [haproxy, "-db", "-f", configuration], cls.directory)

    def test_connection_field_cannot_delete_fields_of_the_proxy(self):
        cookie = self.sign_in()
        for named in ("x-forwarded-for", "x-forwarded-proto, x-forwarded-host", "X-Forwarded-For, close, Cookie"):
            with self.subTest(named):
                answer = self.ask("GET", "/headers", {"Cookie": cookie, "Connection": named})
                self.assertDoneBy(self.gateway, answer, 200)
                fields = answer.json()
                self.assertEqual(fields["x-forwarded-proto"], "https")
                self.assertIn(CLIENT, fields["x-forwarded-for"])


class BehindHaproxyByProxyProtocol(Behind, PeerTest):
    """The section about the PROXY protocol: its `[server]` in place of the one above, and its configuration of HAProxy."""

    page = "behind-haproxy.md"

    @classmethod
    def toml(cls) -> str:
        whole, server = blocks(cls.page, "toml")
        return exchanged(
            server + whole[whole.index("[password]") :],
            {
                "127.0.0.1:8080": f"127.0.0.1:{cls.inner}",
                "127.0.0.1:3000": f"127.0.0.1:{cls.app.port}",
                "https://app.example.com": cls.origin,
                "/etc/passgate/fullchain.pem": cls.certificate,
                "/etc/passgate/privkey.pem": cls.key,
            },
        )

    @classmethod
    def start_proxy(cls) -> Process:
        configuration = cls.directory / "haproxy-tcp.cfg"
        configuration.write_text(
            exchanged(
                blocks(cls.page, "haproxy")[1],
                {"bind :443": f"bind 127.0.0.1:{cls.tls}", "127.0.0.1:8080": f"127.0.0.1:{cls.inner}"},
            )
        )
        haproxy = shutil.which("haproxy") or "/usr/sbin/haproxy"
        return Process("haproxy", [haproxy, "-db", "-f", configuration], cls.directory)


class BehindCaddy(Behind, PeerTest):
    page = "behind-caddy.md"

    @classmethod
    def start_proxy(cls) -> Process:
        configuration = cls.directory / "Caddyfile"
        site = exchanged(
            blocks(cls.page, "caddyfile")[0],
            {
                "app.example.com {": f"{cls.origin} {{\n    bind 127.0.0.1\n    tls {cls.certificate} {cls.key}",
                "127.0.0.1:8080": f"127.0.0.1:{cls.inner}",
            },
        )
        # No port 80 and no admin port on the machine of the tests.
        configuration.write_text("{\n    admin off\n    auto_https disable_redirects\n    persist_config off\n}\n" + site)
        command = [caddy(), "run", "--config", configuration, "--adapter", "caddyfile"]
        return Process("caddy", command, cls.directory, env={"HOME": str(cls.directory)})


def caddy() -> str:
    found = shutil.which("caddy")
    if not found:
        raise AssertionError("no `caddy`; `tests/peers/run` installs it")
    return found


class Pages(PeerTest):
    """The required content of each of these pages."""

    def test_every_page_names_the_required_settings(self):
        pages = sorted((REPOSITORY / "docs").glob("behind-*.md"))
        self.assertEqual(
            [page.stem.removeprefix("behind-") for page in pages], ["caddy", "haproxy", "nginx", "traefik"]
        )
        for page in pages:
            with self.subTest(page.name):
                text = page.read_text()
                for words in ("trusted_proxies", "public_url", "X-Forwarded-For", "WebSocket", "/auth/login"):
                    self.assertIn(words, text)
                for toml in blocks(page.name, "toml")[:1]:
                    config = self.directory / f"{page.stem}.toml"
                    config.write_text(toml)
                    done = subprocess.run(
                        [binary(), "check", "-c", config], capture_output=True, text=True, timeout=60
                    )
                    self.assertEqual((done.returncode, "warning" in done.stderr), (0, False), done.stderr)
