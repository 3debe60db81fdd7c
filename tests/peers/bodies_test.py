"""Large bodies through the gateway to nginx and back: complete, streamed, and not buffered."""

import hashlib
import os
import re
import socket
import subprocess
import threading
import time

from harness import Gateway, Nginx, PeerTest, Sampler, base, free_port, request, run, wait_for

MIB = 1 << 20
GIB = 1 << 30
LIMIT = 10 * MIB  # the gateway's memory grows by less, for a body of any size


class Bodies(PeerTest):
    @classmethod
    def prepare(cls):
        files = cls.directory / "files"
        files.mkdir()
        with (files / "large").open("wb") as file:
            file.truncate(GIB)  # no blocks on disk
        cls.noise = os.urandom(32 * MIB)
        (files / "noise").write_bytes(cls.noise)
        cls.files = files
        port = free_port()
        cls.nginx = cls.start(
            Nginx(
                cls.directory,
                "nginx",
                port,
                f"""
                server {{
                    listen 127.0.0.1:{port};
                    root {files};
                    sendfile on;
                    client_max_body_size 0;
                    location / {{ dav_methods PUT DELETE; }}
                    location = /status {{ stub_status; }}
                }}
                """,
            )
        )
        cls.idle_app = socket.create_server(("127.0.0.1", 0))
        cls.addClassCleanup(cls.idle_app.close)
        cls.gateway = cls.start(
            Gateway(
                cls.directory,
                base(cls.directory, cls.signer)
                + f"""
                [upstreams.files]
                servers = ["http://127.0.0.1:{port}"]
                response_timeout = "120s"
                [upstreams.idle]
                servers = ["http://127.0.0.1:{cls.idle_app.getsockname()[1]}"]
                response_timeout = "120s"
                [[routes]]
                path = "/*"
                roles = ["user"]
                upstream = "files"
                [[routes]]
                path = "/idle"
                upstream = "idle"
                """,
            )
        )
        cls.token = cls.signer.token()
        # Permanent buffers do not count as growth: both directions run once with a small body first.
        for version in ("--http1.1", "--http2-prior-knowledge"):
            cls.curl(version, "/noise", "-o", cls.directory / "warm")
            cls.curl(version, "/warm", "-T", files / "noise")

    @classmethod
    def curl(cls, version: str, path: str, *arguments) -> str:
        """Status, bytes down and bytes up, as `200 1024 0`."""
        authorization = f"Authorization: Bearer {cls.token}"
        form = "%{http_code} %{size_download} %{size_upload}"
        done = run(
            "curl", "-sS", version, "-H", authorization, "-w", form, *arguments, cls.gateway.url + path, timeout=300
        )  # fmt: skip
        return done.stdout.splitlines()[-1]

    def stays_small(self, sampler: Sampler):
        self.assertLess(sampler.growth, LIMIT, f"memory went from {sampler.first} to {sampler.highest}")

    def download(self, version: str):
        with Sampler(self.gateway.memory) as memory:
            self.assertEqual(self.curl(version, "/large", "-o", "/dev/null"), f"200 {GIB} 0")
        self.stays_small(memory)

    def upload(self, version: str, *arguments):
        name = f"/up{version}"
        with Sampler(self.gateway.memory) as memory:
            status = self.curl(version, name, "-T", self.files / "large", *arguments).split()
        stored = self.files / name[1:]
        self.assertEqual(status[0], "201", self.gateway.text())
        self.assertEqual(stored.stat().st_size, GIB)
        stored.unlink()
        self.stays_small(memory)

    def test_a_gigabyte_down_over_http_1(self):
        self.download("--http1.1")

    def test_a_gigabyte_down_over_http_2(self):
        self.download("--http2-prior-knowledge")

    def test_a_gigabyte_up_over_http_1(self):
        self.upload("--http1.1")

    def test_a_gigabyte_up_over_http_1_in_chunks(self):
        self.upload("--http1.1", "-H", "Transfer-Encoding: chunked")

    def test_a_gigabyte_up_over_http_2(self):
        self.upload("--http2-prior-knowledge")

    def test_each_byte_arrives_as_it_was_sent(self):
        expected = hashlib.sha256(self.noise).hexdigest()
        for version in ("--http1.1", "--http2-prior-knowledge"):
            with self.subTest(version=version):
                target = self.directory / "down"
                self.assertTrue(self.curl(version, "/noise", "-o", target).startswith("200 "))
                self.assertEqual(hashlib.sha256(target.read_bytes()).hexdigest(), expected)
                self.assertRegex(self.curl(version, "/copy", "-T", self.files / "noise"), r"^20[14] ")
                self.assertEqual(hashlib.sha256((self.files / "copy").read_bytes()).hexdigest(), expected)

    def test_range_request_is_answered_by_the_app(self):
        self.assertEqual(self.curl("--http1.1", "/noise", "-r", "100-199", "-o", "/dev/null"), "206 100 0")

    def test_a_slow_reader_holds_the_app_back(self):
        """A client that reads a gigabyte at 4 MiB a second: the gateway must not buffer the faster answer of the app."""
        for version in ("--http1.1", "--http2-prior-knowledge"):
            with self.subTest(version=version), Sampler(self.gateway.memory) as memory:
                command = ["curl", "-sS", version, "--limit-rate", "4M", "--max-time", "4", "-o", "/dev/null"]
                command += ["-H", f"Authorization: Bearer {self.token}", self.gateway.url + "/large"]
                done = subprocess.run(command, capture_output=True, check=False)
                self.assertEqual(done.returncode, 28, "the time of the transfer should have run out")
            self.stays_small(memory)

    def test_an_app_that_does_not_read_holds_the_client_back(self):
        """The app reads only the head; the client can only fill the buffers of the sockets."""
        held = []

        def accept():
            connection, _ = self.idle_app.accept()
            held.append(connection)

        threading.Thread(target=accept, daemon=True).start()
        client = socket.create_connection(("127.0.0.1", self.gateway.port))
        self.addCleanup(client.close)
        head = f"POST /idle HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {self.token}\r\nContent-Length: {GIB}\r\n\r\n"
        client.sendall(head.encode())
        wait_for("the request at the app", lambda: held)
        self.addCleanup(held[0].close)
        client.settimeout(2)
        sent = 0
        with Sampler(self.gateway.memory) as memory:
            try:
                while sent < GIB:
                    sent += client.send(bytes(MIB))
            except TimeoutError:
                pass
        self.assertLess(sent, 256 * MIB, "the gateway read a body that the app does not read")
        self.stays_small(memory)

    def test_a_client_that_goes_away_ends_the_transfer_from_the_app(self):
        client = socket.create_connection(("127.0.0.1", self.gateway.port))
        client.sendall(
            f"GET /large HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {self.token}\r\n\r\n".encode()
        )
        self.assertTrue(client.recv(1000).startswith(b"HTTP/1.1 200"))
        wait_for("nginx in the middle of its answer", lambda: self.answers_under_way() > 0)
        client.close()
        wait_for("nginx rid of it", lambda: self.answers_under_way() == 0)

    def answers_under_way(self) -> int:
        """The number of answers that nginx is writing, by its own count, including the answer to this request."""
        return int(re.search(r"Writing: (\d+)", request(self.nginx.port, "GET", "/status").body.decode())[1]) - 1

    def test_an_upload_without_a_token_is_refused_before_its_body(self):
        client = socket.create_connection(("127.0.0.1", self.gateway.port))
        self.addCleanup(client.close)
        client.settimeout(10)
        client.sendall(f"PUT /refused HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: {GIB}\r\n\r\n".encode())
        started = time.monotonic()
        answer = client.recv(4096)
        self.assertRegex(answer, rb"^HTTP/1\.1 401 ")
        self.assertLess(time.monotonic() - started, 5)
        self.assertTrue(re.search(rb"(?i)\r\nconnection: close\r\n", answer), answer)
        self.assertFalse((self.files / "refused").exists())
