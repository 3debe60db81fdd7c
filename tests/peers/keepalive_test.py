"""Connections that the app closes at any time: no request is lost, and none is sent twice."""

import collections
import http.client
import random
import threading
import time

from harness import Gateway, Nginx, PeerTest, base, bearer, free_port, h2load, wait_for


class KeepAlive(PeerTest):
    THREADS = 8
    EACH = 400

    @classmethod
    def prepare(cls):
        hasty, short, patient = free_port(), free_port(), free_port()
        cls.app_log = cls.directory / "app.log"
        cls.nginx = cls.start(
            Nginx(
                cls.directory,
                "nginx",
                hasty,
                f"""
                log_format ids '$request_method $arg_id $status';
                client_max_body_size 1m;
                # Closes a connection after 5 ms without a request, without notice.
                server {{
                    listen 127.0.0.1:{hasty};
                    keepalive_timeout 5ms;
                    access_log {cls.app_log} ids;
                    location / {{ return 200 "hasty"; }}
                }}
                # Closes each connection after its third answer, with `Connection: close`.
                server {{
                    listen 127.0.0.1:{short};
                    keepalive_requests 3;
                    location / {{ return 200 "short"; }}
                }}
                server {{
                    listen 127.0.0.1:{patient};
                    keepalive_requests 1000000;
                    location / {{ return 200 "patient"; }}
                }}
                """,
            )
        )
        cls.gateway = cls.start(
            Gateway(
                cls.directory,
                base(cls.directory, cls.signer)
                + f"""
                [upstreams.hasty]
                servers = ["http://127.0.0.1:{hasty}"]
                [upstreams.short]
                servers = ["http://127.0.0.1:{short}"]
                [upstreams.patient]
                servers = ["http://127.0.0.1:{patient}"]
                [[routes]]
                path = "/patient"
                upstream = "patient"
                [[routes]]
                path = "/hasty"
                upstream = "hasty"
                [[routes]]
                path = "/short"
                upstream = "short"
                """,
            )
        )
        cls.token = cls.signer.token()

    def hammer(
        self, method: str, path: str, body: bytes | None, pauses: tuple[float, float], clients: int = THREADS
    ) -> collections.Counter:
        """Requests of several clients, with a pause in seconds before each; returns the counts of statuses."""
        statuses = collections.Counter()
        lock = threading.Lock()

        def client(number: int):
            chance = random.Random(number)
            connection = http.client.HTTPConnection("127.0.0.1", self.gateway.port, timeout=30)
            mine = collections.Counter()
            for turn in range(self.EACH):
                target = f"{path}?id={self._testMethodName}-{method}-{number}-{turn}"
                try:
                    connection.request(method, target, body=body, headers=bearer(self.token))
                    answer = connection.getresponse()
                    answer.read()
                    mine[answer.status] += 1
                except (http.client.HTTPException, OSError):
                    # No answer, on a connection that the previous answer did not announce to close.
                    mine["broken"] += 1
                    connection.close()
                time.sleep(chance.uniform(*pauses))
            connection.close()
            with lock:
                statuses.update(mine)

        threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return statuses

    def arrivals(self) -> collections.Counter:
        """How often the app got each request of this test."""
        lines = (line.split() for line in self.app_log.read_text().splitlines())
        return collections.Counter(fields[1] for fields in lines if fields[1].startswith(f"{self._testMethodName}-"))

    def test_a_connection_that_the_app_closed_is_noticed(self):
        """One client with pauses well over the app's idle timeout: the pooled connection is closed each time, and no request is
        lost."""
        for method, body in (("GET", None), ("POST", b"order=1")):
            with self.subTest(method):
                statuses = self.hammer(method, "/hasty", body, (0.025, 0.030), clients=1)
                self.assertEqual(statuses, {200: self.EACH})

    def test_a_request_that_may_have_been_processed_is_not_sent_again(self):
        """Pauses about as long as the app's idle timeout, so that requests cross with the end of their connection. The gateway
        cannot know whether the app processed such a request: 502 is better than an order placed twice."""
        for method, body in (("GET", None), ("POST", b"order=1")):
            with self.subTest(method):
                statuses = self.hammer(method, "/hasty", body, (0.003, 0.008))
                self.assertEqual(sum(statuses.values()), self.THREADS * self.EACH)
                self.assertLessEqual(set(statuses), {200, 502}, statuses)
                self.assertGreater(statuses[200], 0.95 * self.THREADS * self.EACH, statuses)
        wait_for(
            "a line at the app for each answer", lambda: len(self.arrivals()) >= 0.95 * 2 * self.THREADS * self.EACH
        )
        self.assertEqual([name for name, count in self.arrivals().items() if count > 1], [])

    def test_early_answer_of_the_app_keeps_the_clients_connection(self):
        """nginx answers these POSTs from their heads. The connection goes on, or the answer says that it ends."""
        statuses = self.hammer("POST", "/patient", b"order=1", (0, 0))
        self.assertEqual(statuses, {200: self.THREADS * self.EACH})

    def test_connection_closed_by_an_answer_is_not_reused(self):
        for arguments in (["--h1"], []):
            for body in ([], ["-d", str(self.order())]):
                with self.subTest(arguments=arguments, body=bool(body)):
                    counts = h2load(
                        f"{self.gateway.url}/short", *arguments, *body, "-n", "6000", "-c", "16", "-m", "1" if arguments else "4",
                        "-H", f"Authorization: Bearer {self.token}",
                    )  # fmt: skip
                    self.assertEqual(
                        (counts["succeeded"], counts["2xx"], counts["failed"]), (6000, 6000, 0), counts["text"]
                    )

    def order(self):
        path = self.directory / "body"
        path.write_bytes(b"order=1")
        return path

    def test_the_app_may_restart_between_two_requests(self):
        """All pooled connections are closed at once; the next request uses a new one."""
        for turn in range(5):
            self.nginx.child.send_signal(1)  # SIGHUP: nginx replaces its worker and closes idle connections
            time.sleep(0.1)
            counts = h2load(
                f"{self.gateway.url}/short", "--h1", "-n", "200", "-c", "8", "-H", f"Authorization: Bearer {self.token}"
            )  # fmt: skip
            self.assertEqual(counts["2xx"], 200, f"turn {turn}: {counts['text']}")
