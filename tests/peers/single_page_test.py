"""A single-page app on another port of localhost, in Chromium: it signs in by fetch, refreshes by cookie, signs out."""

import json
import subprocess

from harness import APPS, Gateway, PeerTest, binary, free_port

EMAIL, PASSWORD = "anna@example.com", "Anna's first password"


class SinglePage(PeerTest):
    @classmethod
    def prepare(cls):
        public, page, other = free_port(), free_port(), free_port()
        toml = f"""
        [server]
        listen = "127.0.0.1:{public}"
        public_url = "http://localhost:{public}"
        [admin]
        listen = "127.0.0.1:0"
        [state]
        url = "sqlite:single_page.db"
        [session]
        origins = ["http://localhost:{page}"]
        refresh_cookie = true
        [password]
        [upstreams.app]
        builtin = "whoami"
        [[routes]]
        path = "/*"
        upstream = "app"
        [[routes]]
        path = "/api/*"
        upstream = "app"
        cors = {{ origins = ["http://localhost:{page}"], credentials = true }}
        [[routes]]
        path = "/api/down"
        upstream = "app"
        maintenance = "back at noon"
        cors = {{ origins = ["http://localhost:{page}"] }}
        """
        (cls.directory / "single_page.toml").write_text(toml)
        add = [binary(), "user", "add", EMAIL, "-c", cls.directory / "single_page.toml"]
        subprocess.run(add, input=f"{PASSWORD}\n", text=True, check=True, capture_output=True)
        cls.gateway = cls.start(Gateway(cls.directory, toml, "single_page"))
        told = {"gateway": f"http://localhost:{public}", "port": page, "other": other, "email": EMAIL, "password": PASSWORD}
        done = subprocess.run(
            ["node", APPS / "single_page.mjs"], input=json.dumps(told), capture_output=True, text=True, timeout=120
        )
        if done.returncode != 0:
            raise AssertionError(f"{done.stdout}\n{done.stderr}\n{cls.gateway.text()}")
        cls.steps = json.loads(done.stdout)

    def test_page_reads_refusals(self):
        self.assertEqual([self.steps[step]["status"] for step in ("wrong", "anonymous")], [401, 401])
        self.assertTrue(self.steps["wrong"]["id"])

    def test_refresh_token_is_out_of_reach_of_the_script(self):
        login = self.steps["login"]
        self.assertEqual(login["status"], 200, login)
        self.assertEqual(sorted(login["body"]), ["accessToken", "expiresIn", "tokenType"])
        self.assertEqual(self.steps["script"], "")
        self.assertEqual(self.steps["cookies"], [["passgate-refresh", "/auth/refresh", True, "Strict"]])

    def test_page_refreshes_by_cookie_and_knows_its_user(self):
        self.assertEqual([self.steps[step]["status"] for step in ("refresh", "me", "again")], [200, 200, 200], self.steps)
        self.assertEqual(self.steps["me"]["body"]["email"], EMAIL)

    def test_page_of_an_unlisted_origin_reads_nothing_and_spends_nothing(self):
        self.assertEqual(self.steps["strangers"], [{"error": "TypeError"}] * 3)
        self.assertEqual(self.steps["again"]["status"], 200)

    def test_page_calls_a_route_that_names_its_origin(self):
        self.assertEqual(self.steps["api"]["status"], 200, self.steps["api"])
        self.assertEqual(self.steps["by_cookie"]["status"], 200, self.steps["by_cookie"])
        self.assertIn("X-Custom", self.steps["by_cookie"]["text"].title())
        self.assertEqual(self.steps["bad"]["status"], 401)
        self.assertTrue(self.steps["bad"]["id"])
        self.assertEqual(self.steps["down"]["status"], 503)

    def test_page_calls_no_route_that_does_not_name_its_origin(self):
        self.assertEqual(self.steps["without_cors"], [{"error": "TypeError"}] * 2)
        self.assertEqual(self.steps["unlisted"], [{"error": "TypeError"}] * 2)

    def test_page_signs_out(self):
        self.assertEqual([self.steps[step]["status"] for step in ("logout", "after")], [200, 401])
        self.assertEqual(self.steps["left"], 0)
