"""Sessions that are ended by another client or command while WebSockets, event streams and gRPC calls are open."""

import http.client
import http.cookies
import json
import subprocess
import time
import urllib.parse

from harness import APPS, Answer, Gateway, NodeApp, PeerTest, Process, bearer, binary, free_port, request, wait_for

PASSWORD = "a password of some length"
SOON = 2.0  # seconds; a change by a command applies within two seconds


class Sessions(PeerTest):
    people = ("alice", "bob", "carol", "dave")

    @classmethod
    def prepare(cls):
        cls.app = cls.start(NodeApp(cls.directory, "streams"))
        grpc = cls.start(NodeApp(cls.directory, "grpc", "serve"))
        port = free_port()
        toml = f"""
        [server]
        listen = "127.0.0.1:{port}"
        public_url = "http://127.0.0.1:{port}"
        [admin]
        listen = "127.0.0.1:0"
        [state]
        url = "sqlite:{cls.directory}/passgate.db"
        [password]
        [upstreams.app]
        servers = ["http://127.0.0.1:{cls.app.port}"]
        [upstreams.grpc]
        servers = ["h2c://127.0.0.1:{grpc.port}"]
        [[routes]]
        path = "/*"
        upstream = "app"
        [[routes]]
        path = "/peers.Echo/*"
        upstream = "grpc"
        """
        cls.config = cls.directory / "passgate.toml"
        cls.config.write_text(toml)
        for person in cls.people:
            cls.passgate("user", "add", f"{person}@example.com", stdin=PASSWORD + "\n")
        cls.gateway = cls.start(Gateway(cls.directory, toml))

    @classmethod
    def passgate(cls, *arguments: str, stdin: str = "") -> str:
        """A command on the same state while the gateway runs."""
        command = [binary(), *arguments, "-c", str(cls.config)]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise AssertionError(f"`{' '.join(arguments)}` ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    # Signing in

    def sign_in(self, person: str) -> str:
        """An access token."""
        body = json.dumps({"email": f"{person}@example.com", "password": PASSWORD})
        answer = request(self.gateway.port, "POST", "/auth/login", {"Content-Type": "application/json"}, body)
        self.assertDoneBy(self.gateway, answer, 200)
        return answer.json()["accessToken"]

    def browse(self, person: str) -> str:
        """A session cookie, as in the field `Cookie`."""
        body = urllib.parse.urlencode({"email": f"{person}@example.com", "password": PASSWORD})
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": self.gateway.url}
        answer = request(self.gateway.port, "POST", "/auth/login", headers, body)
        self.assertDoneBy(self.gateway, answer, 303)
        [cookie] = http.cookies.SimpleCookie(answer.fields["set-cookie"]).values()
        return f"{cookie.key}={cookie.value}"

    def ask(self, method: str, path: str, fields: dict) -> Answer:
        return request(self.gateway.port, method, path, fields)

    def current(self, fields: dict) -> str:
        """The id of the client's session."""
        sessions = self.ask("GET", "/auth/sessions", fields).json()["sessions"]
        [own] = [session["id"] for session in sessions if session["current"]]
        return own

    # Open streams

    def websocket(self, fields: dict) -> Process:
        return self.waiting("ws_wait", f"ws://127.0.0.1:{self.gateway.port}/ws", fields)

    def call(self, fields: dict) -> Process:
        return self.waiting("grpc_wait", f"127.0.0.1:{self.gateway.port}", fields)

    def waiting(self, app: str, where: str, fields: dict) -> Process:
        lines = [f"{name}: {value}" for name, value in fields.items()]
        process = Process(f"{app}-{time.monotonic_ns()}", ["node", APPS / f"{app}.mjs", where, *lines], self.directory)
        self.addCleanup(process.stop)
        process.line(process.stdout, r'^\{"open":true\}$')
        return process

    def events(self, fields: dict) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway.port, timeout=10)
        self.addCleanup(connection.close)
        connection.request("GET", "/events", headers={**fields, "Accept": "text/event-stream"})
        stream = connection.getresponse()
        self.assertEqual(stream.status, 200)
        self.assertIn(b"id: ", b"".join(stream.readline() for _ in range(3)))
        return stream

    def outcome(self, process: Process) -> dict:
        """How the stream of `waiting` ended, within the allowed time."""
        return json.loads(
            wait_for(f"the end of it\n{process.text()}\n{self.gateway.text()}", lambda: self.last(process), SOON)
        )

    @staticmethod
    def last(process: Process) -> str | None:
        lines = process.stdout.read_text().split("\n")
        return lines[1] if len(lines) > 2 else None

    def ends(self, stream: http.client.HTTPResponse):
        """The rest of an event stream, which ends within the allowed time; a client does not distinguish how."""
        began = time.monotonic()
        try:
            self.assertEqual(stream.read(), b"")
        except (http.client.IncompleteRead, ConnectionResetError):
            pass
        self.assertLess(time.monotonic() - began, SOON)

    def is_over(self, fields: dict):
        self.assertDoneBy(self.gateway, self.ask("GET", "/events", {**fields, "Accept": "text/event-stream"}), 401)

    # The tests

    def test_revoked_session_closes_the_websocket_of_its_token(self):
        alice, other = (bearer(self.sign_in("alice")) for _ in range(2))
        socket, beside = self.websocket(alice), self.websocket(other)
        self.passgate("session", "revoke", self.current(alice))
        self.assertEqual(self.outcome(socket)["code"], 1008)
        self.is_over(alice)
        self.assertIsNone(self.last(beside), "another session of the same account is none of its business")
        self.assertDoneBy(self.gateway, self.ask("GET", "/auth/me", other), 200)

    def test_session_ended_in_the_browser_closes_its_streams_at_once(self):
        here, there = ({"Cookie": self.browse("bob")} for _ in range(2))
        socket = self.websocket({**there, "Origin": self.gateway.url})
        stream = self.events(there)
        answer = self.ask("DELETE", f"/auth/sessions/{self.current(there)}", {**here, "Origin": self.gateway.url})
        self.assertDoneBy(self.gateway, answer, 204)
        self.is_over(there)  # at once
        self.assertEqual(self.outcome(socket)["code"], 1008)
        self.ends(stream)
        self.assertDoneBy(self.gateway, self.ask("GET", "/auth/me", here), 200)
        # The app has no open stream left.
        wait_for(
            "the app rid of the stream", lambda: request(self.app.port, "GET", "/state").json()["streams"] == 0, SOON
        )

    def test_event_stream_ends_with_its_session_and_stays_refused(self):
        carol = bearer(self.sign_in("carol"))
        stream = self.events(carol)
        self.passgate("session", "revoke", self.current(carol))
        self.ends(stream)
        self.is_over(carol)

    def test_an_event_stream_over_http_2_ends_with_its_session(self):
        carol = bearer(self.sign_in("carol"))
        session = self.current(carol)
        curl = Process(
            f"curl-{time.monotonic_ns()}",
            [
                "curl",
                "-sSN",
                "--http2-prior-knowledge",
                "--max-time",
                "20",
                "-w",
                "\n%{http_code}",
                f"{self.gateway.url}/events",
            ]
            + ["-H", f"Authorization: {carol['Authorization']}"],
            self.directory,
        )
        self.addCleanup(curl.stop)
        curl.line(curl.stdout, r"^data: event")
        self.passgate("session", "revoke", session)
        wait_for(f"the end of the stream\n{curl.text()}", lambda: curl.child.poll() is not None, SOON)
        self.assertRegex(curl.stdout.read_text(), r"\n200$")

    def test_a_grpc_call_ends_as_unauthenticated(self):
        alice = bearer(self.sign_in("alice"))
        call = self.call({"authorization": alice["Authorization"]})
        self.passgate("session", "revoke", self.current(alice))
        self.assertEqual(self.outcome(call)["status"], 16)

    def test_disabled_account_loses_its_open_streams(self):
        token, cookie = bearer(self.sign_in("dave")), {"Cookie": self.browse("dave")}
        socket = self.websocket({**cookie, "Origin": self.gateway.url})
        call = self.call({"authorization": token["Authorization"]})
        self.passgate("user", "disable", "dave@example.com")
        self.assertEqual(self.outcome(socket)["code"], 1008)
        self.assertEqual(self.outcome(call)["status"], 16)
        self.is_over(token)
        self.is_over(cookie)
        self.passgate("user", "enable", "dave@example.com")
        self.is_over(token)

    def test_signing_out_everywhere_closes_the_sockets_of_all_sessions(self):
        browser, client = {"Cookie": self.browse("bob")}, bearer(self.sign_in("bob"))
        carol = bearer(self.sign_in("carol"))
        sockets = [self.websocket({**browser, "Origin": self.gateway.url}), self.websocket(client)]
        beside = self.websocket(carol)
        answer = self.ask("POST", "/auth/logout?all=true", {**client, "Accept": "application/json"})
        self.assertDoneBy(self.gateway, answer, 200)
        self.assertEqual([self.outcome(socket)["code"] for socket in sockets], [1008, 1008])
        self.is_over(browser)
        self.is_over(client)
        self.assertIsNone(self.last(beside))

    def test_ended_session_stays_ended_after_a_restart(self):
        alice = bearer(self.sign_in("alice"))
        session = self.current(alice)
        toml = self.config.read_text()
        second = Gateway(
            self.directory,
            toml.replace(f'listen = "127.0.0.1:{self.gateway.port}"', 'listen = "127.0.0.1:0"'),
            "second",
        )
        self.addCleanup(second.stop)
        self.assertDoneBy(second, request(second.port, "GET", "/auth/me", alice), 200)
        second.child.kill()
        second.child.wait()
        self.passgate("session", "revoke", session)
        self.assertNotIn(session, self.passgate("session", "list", "alice@example.com"))
        third = Gateway(self.directory, second.config.read_text(), "third")
        self.addCleanup(third.stop)
        self.assertDoneBy(third, request(third.port, "GET", "/auth/me", alice), 401)
