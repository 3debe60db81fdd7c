"""Long-lived streams: WebSockets, Server-Sent Events, gRPC with its trailers."""

import http.client
import json
import socket

from harness import (
    APPS,
    Authority,
    Gateway,
    NodeApp,
    PeerTest,
    base,
    bearer,
    request,
    run,
    wait_for,
)


class Streams(PeerTest):
    @classmethod
    def prepare(cls):
        cls.app = cls.start(NodeApp(cls.directory, "streams"))
        cls.gateway = cls.start(
            Gateway(
                cls.directory,
                base(cls.directory, cls.signer)
                + f"""
                [credentials]
                sources = [{{ header = "authorization", scheme = "Bearer" }}, {{ cookie = "access" }},
                    {{ websocket_protocol = "bearer" }}]
                [upstreams.app]
                servers = ["http://127.0.0.1:{cls.app.port}"]
                # Shorter than every stream below, so that a cut by this timeout would show.
                response_timeout = "1s"
                [[routes]]
                path = "/*"
                roles = ["user"]
                upstream = "app"
                """,
            )
        )
        cls.token = cls.signer.token("alice", ["user"])

    def state(self) -> dict:
        return request(self.app.port, "GET", "/state").json()

    # WebSockets

    def websocket(self, token: str, *fields: str) -> dict:
        url = f"ws://127.0.0.1:{self.gateway.port}/ws?room=1"
        return json.loads(run("node", APPS / "ws_client.mjs", url, token, "1000", *fields).stdout)

    def test_a_websocket_echoes_texts_bytes_and_pings(self):
        result = self.websocket(self.token, "X-Auth-User: mallory", "x_auth_user: mallory")
        self.assertNotIn("error", result)
        self.assertEqual((result["texts"], result["binary"], result["pong"]), (1000, True, True), result)
        self.assertEqual((result["code"], result["reason"]), (4001, "enough"))
        self.assertEqual(result["headers"]["x-auth-user"], "alice")
        self.assertNotIn("x_auth_user", result["headers"])
        self.assertNotIn("authorization", result["headers"])

    def test_a_websocket_without_the_right_token_never_reaches_the_app(self):
        before = self.state()["upgrades"]
        self.assertEqual(self.websocket("-").get("status"), 401)
        self.assertEqual(self.websocket("rubbish").get("status"), 401)
        self.assertEqual(self.websocket(self.signer.token(roles=["guest"])).get("status"), 403)
        self.assertEqual(self.state()["upgrades"], before)

    def test_websocket_with_a_protocol_token_gets_its_protocol(self):
        for protocols, seen, chosen in [
            (f"bearer, {self.token}", None, "bearer"),
            (f"chat, bearer, {self.token}", "chat", "chat"),
            (f"bearer, {self.token}, v2, v1", "v2, v1", "v2"),
        ]:
            result = self.websocket("-", f"Sec-WebSocket-Protocol: {protocols}", "Origin: https://spa.test")
            self.assertNotIn("error", result)
            self.assertEqual((result["texts"], result["protocol"]), (1000, chosen), result)
            self.assertEqual(result["headers"].get("sec-websocket-protocol"), seen)
            self.assertEqual(result["headers"]["x-auth-user"], "alice")
            self.assertNotIn(self.token, json.dumps(result["headers"]))
        before = self.state()["upgrades"]
        self.assertEqual(self.websocket("-", "Sec-WebSocket-Protocol: bearer, rubbish").get("status"), 401)
        self.assertEqual(self.state()["upgrades"], before)

    def test_a_websocket_by_cookie_is_for_pages_of_the_same_origin(self):
        cookie = f"Cookie: access={self.token}"
        here, there = f"Origin: http://127.0.0.1:{self.gateway.port}", "Origin: http://evil.test"
        before = self.state()["upgrades"]
        self.assertEqual(self.websocket("-", cookie, there).get("status"), 403)
        self.assertEqual(self.websocket("-", cookie, "Sec-Fetch-Site: cross-site").get("status"), 403)
        self.assertEqual(self.state()["upgrades"], before)
        self.assertEqual(self.websocket("-", cookie, here).get("texts"), 1000)

    def test_an_idle_websocket_outlives_the_response_timeout(self):
        client = self.handshake()
        client.settimeout(2.5)
        with self.assertRaises(TimeoutError, msg="the connection ended by itself"):
            if client.recv(1) == b"":
                self.fail("the connection was closed")
        client.settimeout(10)
        client.sendall(b"\x81\x82\x00\x00\x00\x00hi")  # a masked text frame, mask 0 (RFC 6455 section 5.2)
        self.assertEqual(client.recv(100), b"\x81\x02hi")

    def handshake(self) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.gateway.port), 10)
        self.addCleanup(client.close)
        client.sendall(
            f"GET /ws HTTP/1.1\r\nHost: gateway.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"Authorization: Bearer {self.token}\r\n\r\n".encode()
        )
        received = b""
        # The head, then the app's first message, whose JSON ends with the headers of the handshake.
        while not (b"\r\n\r\n" in received and received.endswith(b"}")):
            part = client.recv(65536)
            self.assertTrue(part, received)
            received += part
        self.assertTrue(received.startswith(b"HTTP/1.1 101 "), received)
        self.assertIn(b"s3pplmbitxaq9kygzzhzrbk+xoo=", received.lower())
        return client

    # Server-Sent Events

    def test_each_event_arrives_before_the_next_one_is_sent(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway.port, timeout=10)
        self.addCleanup(connection.close)
        connection.request("GET", "/events", headers={**bearer(self.token), "Accept": "text/event-stream"})
        stream = connection.getresponse()
        self.assertEqual((stream.status, stream.getheader("content-type")), (200, "text/event-stream"))
        for turn in range(20):
            lines = [stream.readline() for _ in range(3)]
            self.assertRegex(lines[1], rb"^data: event \d+\n$")
            self.assertEqual(
                request(self.gateway.port, "POST", "/next", bearer(self.token)).json(), {"streams": 1}, turn
            )

    def test_events_over_http_2(self):
        done = run(
            "sh", "-c",
            'curl -sSN --http2-prior-knowledge --max-time 2 -H "Authorization: Bearer $1" "$2" || [ $? = 28 ]',
            "sh", self.token, f"{self.gateway.url}/events",
        )  # fmt: skip
        self.assertRegex(done.stdout, r"data: event \d+\n\n$")
        wait_for("the app rid of the stream", lambda: self.state()["streams"] == 0)

    def test_disconnected_client_ends_the_stream_at_the_app(self):
        client = socket.create_connection(("127.0.0.1", self.gateway.port), 10)
        client.sendall(
            f"GET /events HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {self.token}\r\n\r\n".encode()
        )
        self.assertTrue(client.recv(100).startswith(b"HTTP/1.1 200"))
        wait_for("the stream at the app", lambda: self.state()["streams"] == 1)
        client.close()
        wait_for("the app rid of the stream", lambda: self.state()["streams"] == 0, 5)


class Grpc(PeerTest):
    @classmethod
    def prepare(cls):
        cls.app = cls.start(NodeApp(cls.directory, "grpc", "serve"))
        cls.authority = Authority(cls.directory)
        certificate, key = cls.authority.issue("localhost", "IP:127.0.0.1")
        routes = f"""
        [upstreams.grpc]
        servers = ["h2c://127.0.0.1:{cls.app.port}"]
        [[routes]]
        path = "/peers.Echo/*"
        roles = ["user"]
        upstream = "grpc"
        """
        tls = f"""
        [server.tls]
        certificate = "{certificate}"
        private_key = "{key}"
        """
        cls.plain = cls.start(Gateway(cls.directory, base(cls.directory, cls.signer) + routes, "plain"))
        cls.tls = cls.start(Gateway(cls.directory, base(cls.directory, cls.signer) + tls + routes, "tls"))
        cls.token = cls.signer.token("alice", ["user"])

    def calls(self, gateway: Gateway, token: str) -> dict:
        authority = [self.authority.certificate] if gateway.scheme == "https" else []
        return json.loads(run("node", APPS / "grpc_client.mjs", f"localhost:{gateway.port}", token, *authority).stdout)

    def test_every_kind_of_call_ends_with_its_status_and_trailers(self):
        for gateway in (self.plain, self.tls):
            with self.subTest(gateway.scheme):
                result = self.calls(gateway, self.token)
                self.assertEqual((result["unary"]["status"], result["unary"]["end"]), (0, "unary"), result)
                self.assertEqual(result["unary"]["answer"]["got"], {"hello": "world"})
                metadata = result["unary"]["answer"]["metadata"]
                self.assertEqual((metadata["x-auth-user"], metadata["x-own"]), ("alice", "kept"))
                self.assertNotIn("authorization", metadata)
                self.assertEqual(
                    result["fail"], {"error": {"code": 9, "details": "not today"}, "status": 9, "end": "fail"}
                )
                self.assertEqual(result["count"], {"messages": 1000, "inOrder": True, "status": 0, "end": "count"})
                self.assertEqual(result["talk"], {"messages": 100, "status": 0, "end": "talk"})

    def test_call_without_a_valid_token_gets_a_grpc_status(self):
        # A gRPC client maps HTTP 401 to UNAUTHENTICATED (16) and 403 to PERMISSION_DENIED (7).
        self.assertEqual(self.calls(self.plain, "-")["unary"]["status"], 16)
        self.assertEqual(self.calls(self.plain, "rubbish")["unary"]["status"], 16)
        self.assertEqual(self.calls(self.plain, self.signer.token(roles=["guest"]))["unary"]["status"], 7)
