"""Connections to a careless app: no client gets the answer of another, and no body becomes a request.

The app is Python's `http.server` with `do_HEAD = do_GET` and HTTP/1.1: it sends a body where none belongs, a moment late,
and reads an unexpected body as the next request.
"""

import itertools
import socket
import sys
import threading

from harness import APPS, Gateway, PeerTest, Process, base, free_port, request, wait_for

VICTIMS = 1000


class Careless(PeerTest):
    @classmethod
    def prepare(cls):
        cls.port = free_port()
        cls.app = cls.start(Process("careless", [sys.executable, APPS / "careless.py", cls.port], cls.directory))

        def accepts():
            try:
                socket.create_connection(("127.0.0.1", cls.port), 1).close()
                return True
            except OSError:
                return False

        wait_for(f"the app on port {cls.port}\n{cls.app.text()}", accepts)

    def gateway(self, name: str) -> Gateway:
        """A gateway without any experience of the app; one worker, so that all requests share one pool."""
        gateway = Gateway(
            self.directory,
            base(self.directory, self.signer, "workers = 1")
            + f"""
            [upstreams.app]
            servers = ["http://127.0.0.1:{self.port}"]
            [[routes]]
            path = "/*"
            auth = "none"
            upstream = "app"
            """,
            name=name,
        )
        self.addCleanup(gateway.stop)
        return gateway

    def victims_beside(self, gateway: Gateway, attacks: list[bytes]) -> list[str]:
        """Sends attacks repeatedly beside requests of victims; returns the answers that victims got and that were not theirs."""
        over, wrong = threading.Event(), []

        def attacker():
            turns = itertools.cycle(attacks)
            while not over.is_set():
                with socket.create_connection(("127.0.0.1", gateway.port), 10) as connection:
                    connection.settimeout(10)
                    connection.sendall(next(turns))
                    try:
                        while connection.recv(65536):
                            pass
                    except OSError:
                        pass

        def victim(first: int):
            for number in range(first, first + VICTIMS // 4):
                answer = request(gateway.port, "GET", f"/victim/{number}")
                if answer.status != 200 or answer.body.decode() != f"/victim/{number}":
                    wrong.append(f"{number}: {answer.status} {answer.body!r}")

        attackers = [threading.Thread(target=attacker) for _ in range(2)]
        victims = [threading.Thread(target=victim, args=(first,)) for first in range(0, VICTIMS, VICTIMS // 4)]
        for thread in attackers + victims:
            thread.start()
        for thread in victims:
            thread.join()
        over.set()
        for thread in attackers:
            thread.join()
        return wrong

    def test_unexpected_body_never_becomes_an_answer(self):
        for path in ("HEAD /x", "GET /204", "GET /304"):
            with self.subTest(path):
                gateway = self.gateway(path.replace(" /", "-"))
                attack = f"{path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()
                self.assertEqual(self.victims_beside(gateway, [attack]), [])

    def test_unread_body_never_becomes_a_request(self):
        gateway = self.gateway("unread")
        smuggled = b"GET /smuggled HTTP/1.1\r\nHost: a\r\nX-Auth-User: root\r\n\r\n"
        chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(smuggled), smuggled)
        attacks = [
            b"%s /attack HTTP/1.1\r\nHost: a\r\nConnection: close\r\n%s\r\n\r\n%s" % (method, framing, body)
            for method in (b"GET", b"HEAD", b"OPTIONS", b"DELETE")
            for framing, body in (
                (b"Content-Length: %d" % len(smuggled), smuggled),
                (b"Transfer-Encoding: chunked", chunked),
            )
        ]
        self.assertEqual(self.victims_beside(gateway, attacks), [])
        said = self.app.stdout.read_text()
        self.assertIn("GET /attack", said)
        self.assertNotIn("smuggled", said)


if __name__ == "__main__":
    import unittest

    unittest.main()
