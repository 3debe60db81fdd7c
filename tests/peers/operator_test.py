"""The operator's page in Chromium: under load, after a failed reload, and the page of one decision.

PASSGATE_SCREENSHOTS names a directory for screenshots, light, dark and on a phone.
"""

import json
import os
import pathlib
import signal
import subprocess
import threading
import time

from harness import APPS, Authority, Gateway, Nginx, PeerTest, Signer, base, bearer, free_port, h2load, request, wait_for

LOAD = float(os.environ.get("PASSGATE_LOAD_SECONDS", "32"))  # three steps of the charts


class Operator(PeerTest):
    @classmethod
    def prepare(cls):
        signer = Signer(cls.directory)
        app, gone = free_port(), free_port()
        slow = "location /slow { limit_rate 20k; } location / { return 200 'answer'; }"
        cls.start(Nginx(cls.directory, "nginx", app, f"server {{ listen 127.0.0.1:{app}; {slow} }}"))
        certificate, key = Authority(cls.directory).issue("localhost", "IP:127.0.0.1")
        toml = (
            base(cls.directory, signer)
            + f"""
        [server.tls]
        certificate = "{certificate}"
        private_key = "{key}"
        [issuers.far]
        issuer = "https://far.test"
        audiences = ["api"]
        algorithms = ["RS256"]
        jwks_url = "http://127.0.0.1:{gone}/jwks.json"
        [upstreams.app]
        servers = ["http://127.0.0.1:{app}"]
        [upstreams.old-app]
        servers = ["http://127.0.0.1:{gone}", "http://127.0.0.1:{app}"]
        health_check = {{ path = "/", interval = "1s" }}
        [upstreams.whoami]
        builtin = "whoami"
        [[routes]]
        path = "/public/*"
        auth = "none"
        upstream = "app"
        [[routes]]
        path = "/admin/*"
        roles = ["admin"]
        upstream = "app"
        [[routes]]
        path = "/old/*"
        auth = "none"
        upstream = "old-app"
        [[routes]]
        path = "/who/*"
        upstream = "whoami"
        """
        )
        cls.gateway = gateway = cls.start(Gateway(cls.directory, toml))
        cls.load(signer)
        directory = os.environ.get("PASSGATE_SCREENSHOTS")
        if directory:
            pathlib.Path(directory).mkdir(parents=True, exist_ok=True)
            directory = str(pathlib.Path(directory).resolve())
        cls.outcomes = {}
        cls.look("load", directory)
        gateway.config.write_text(toml.replace('roles = ["admin"]', 'role = ["admin"]'))
        os.kill(gateway.pid, signal.SIGHUP)
        wait_for("the reload has failed", lambda: "last reload failed" in cls.page())
        cls.look("reload", directory)

    @classmethod
    def load(cls, signer: Signer):
        """Requests of all kinds, for some time."""
        alice, root = signer.token("alice"), signer.token("root", ["admin"])
        expired = signer.token("carol", expires_in=-600)
        hostile = signer.token("<img src=x onerror=alert(1)>")
        until = time.monotonic() + LOAD
        options = ("-c4", "-t1", f"-D{int(LOAD)}s", "--h1", "-H", f"authorization: Bearer {root}")
        busy = threading.Thread(target=h2load, args=(f"{cls.gateway.url}/admin/users", *options))
        busy.start()
        number = 0
        while time.monotonic() < until:
            number += 1
            headers = [bearer(alice), bearer(root), bearer(expired), {}, bearer(hostile)][number % 5]
            path = ["/admin/users", "/admin/reports/2026?q=1", "/nothing", "/old/a", "/admin/a%2e%2e"][number // 5 % 5]
            cls.ask(path, headers)
            time.sleep(0.02)
        busy.join()
        cls.ask(f"/admin/{'long-name/' * 30}", bearer(alice))
        cls.ask("/admin/users", bearer(hostile))
        cls.ask("/admin/users", bearer(alice))

    @classmethod
    def ask(cls, path: str, headers: dict):
        command = ["curl", "-sk", "-o", "/dev/null", f"{cls.gateway.url}{path}"]
        for name, value in headers.items():
            command += ["-H", f"{name}: {value}"]
        subprocess.run(command, check=True)

    @classmethod
    def page(cls, **headers) -> str:
        return request(cls.gateway.admin_port, "GET", "/", headers=headers).body.decode()

    @classmethod
    def look(cls, when: str, directory: str | None):
        told = {"admin": f"http://127.0.0.1:{cls.gateway.admin_port}", "when": when, "screenshots": directory}
        done = subprocess.run(
            ["node", APPS / "operator.mjs"], input=json.dumps(told), capture_output=True, text=True, timeout=300
        )
        for line in done.stdout.splitlines():
            story = json.loads(line)
            cls.outcomes[when, story["story"]] = story["error"]
        if done.returncode:
            raise AssertionError(done.stderr)

    def test_stories(self):
        self.assertEqual(len(self.outcomes), 10)
        failed = [f"{when}: {story}: {error}" for (when, story), error in self.outcomes.items() if error]
        if failed:
            self.fail("\n".join(failed))

    def test_page_names_callers_only_on_this_machine(self):
        self.assertIn("alice", self.page())
        behind_proxy = self.page(**{"X-Forwarded-For": "192.0.2.1"})
        self.assertNotIn("alice", behind_proxy)
        self.assertIn("role-refused", behind_proxy)
