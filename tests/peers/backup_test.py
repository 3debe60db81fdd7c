"""Tests of `docs/backup.md`: its commands, unchanged, and the table about a restore."""

import base64
import http.cookies
import json
import os
import re
import sqlite3
import stat
import subprocess
import urllib.parse

from harness import REPOSITORY, Gateway, PeerTest, bearer, binary, request, run, wait_for

PAGE = REPOSITORY / "docs/backup.md"
OLD, NEW = "the password of the first day", "the password of the second day"

TOML = """
[server]
listen = "127.0.0.1:0"
public_url = "http://localhost"
[admin]
listen = "127.0.0.1:0"
[password]
[upstreams.app]
builtin = "whoami"
[[routes]]
path = "/*"
upstream = "app"
"""


def commands(name: str) -> list[str]:
    """The lines of a block of the page."""
    block = re.search(rf"^```console {name}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return [line.removeprefix("$ ") for line in block[1].splitlines()]


def key_of(token: str) -> str:
    """The id of the key that signed a token."""
    head = token.split(".")[0]
    return json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))["kid"]


class Backup(PeerTest):
    @classmethod
    def prepare(cls):
        cls.home = cls.directory / "state"
        cls.home.mkdir(mode=0o700)
        (cls.directory / "bin").mkdir()
        (cls.directory / "bin/passgate").symlink_to(binary())
        cls.environment = {
            **os.environ,
            "PATH": f"{cls.directory / 'bin'}:{os.environ['PATH']}",
            "PASSGATE_CONFIG": str(cls.home / "passgate.toml"),
        }
        (cls.home / "passgate.toml").write_text(TOML + '[state]\nurl = "sqlite:passgate.db"\n')
        cls.number = 0
        for email in ("alice@example.com", "bob@example.com"):
            cls.passgate("user", "add", email, "--role", "user", input=OLD)
        cls.serve()

    @classmethod
    def serve(cls):
        cls.number += 1
        toml = TOML + '[state]\nurl = "sqlite:passgate.db"\n'
        cls.gateway = cls.start(Gateway(cls.home, toml, name="passgate"))

    @classmethod
    def passgate(cls, *words: str, input: str = "") -> str:
        done = subprocess.run(
            [binary(), *words], input=input, text=True, capture_output=True, cwd=cls.home, env=cls.environment, timeout=60
        )
        if done.returncode != 0:
            raise AssertionError(f"{words}: {done.stdout}{done.stderr}")
        return done.stdout

    @classmethod
    def walk(cls, name: str) -> str:
        """Runs a block in the directory of the state; commands for systemd are replaced by the test's own start and stop."""
        said, script = "", []

        def flush():
            nonlocal said, script
            if script:
                said += run("bash", "-euo", "pipefail", "-c", "\n".join(script), cwd=cls.home, env=cls.environment).stdout
            script = []

        for line in commands(name):
            if line == "systemctl stop passgate":
                flush()
                assert cls.gateway.stop() == 0
            elif line == "systemctl start passgate":
                flush()
                cls.serve()
            else:
                script.append(line)
        flush()
        return said

    def sign_in(self, email: str, password: str):
        body = urllib.parse.urlencode({"email": email, "password": password})
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Host": "localhost", "Origin": "http://localhost"}
        answer = request(self.gateway.port, "POST", "/auth/login", headers, body)
        if answer.status != 303:
            return answer.status
        name, morsel = next(iter(http.cookies.SimpleCookie(answer.fields["set-cookie"]).items()))
        return f"{name}={morsel.value}"

    def status(self, cookie: str) -> int:
        return request(self.gateway.port, "GET", "/x", {"Cookie": cookie, "Host": "localhost"}).status

    def json_login(self, email: str, password: str):
        body = json.dumps({"email": email, "password": password})
        headers = {"Content-Type": "application/json", "Host": "localhost"}
        return request(self.gateway.port, "POST", "/auth/login", headers, body).json()

    def refresh(self, token: str):
        headers = {"Content-Type": "application/json", "Host": "localhost"}
        return request(self.gateway.port, "POST", "/auth/refresh", headers, json.dumps({"refreshToken": token}))

    def test_the_page(self):
        # --- a copy while the gateway runs, with recent writes
        cookie = self.sign_in("alice@example.com", OLD)
        self.assertEqual(self.status(cookie), 200)
        client = self.json_login("bob@example.com", OLD)
        minted = self.passgate("token", "mint", "--subject", "machine").strip()
        said = self.walk("backup")
        self.assertIn("ok", said)
        copy = self.home / "backup.db"
        self.assertEqual(stat.S_IMODE(copy.stat().st_mode), 0o600)
        with sqlite3.connect(copy) as database:
            self.assertEqual(database.execute("SELECT count(*) FROM accounts").fetchone(), (2,))
            self.assertEqual(database.execute("SELECT count(*) FROM sessions").fetchone(), (2,))
        database.close()
        self.assertEqual(self.status(cookie), 200, "nothing was interrupted")

        # --- changes after the copy
        self.passgate("session", "revoke", "--all", "alice@example.com")
        wait_for("the session ends", lambda: self.status(cookie) != 200)
        self.passgate("user", "password", "bob@example.com", input=NEW)
        self.passgate("user", "add", "carol@example.com", input=OLD)
        self.passgate("user", "disable", "alice@example.com")
        self.passgate("user", "roles", "bob@example.com", "--set", "admin")
        self.passgate("revoke", "--issuer", "session", "--subject", "machine")
        wait_for("the token is refused", lambda: request(self.gateway.port, "GET", "/x", bearer(minted)).status == 401)
        self.passgate("key", "rotate")

        # A new key is published for a while before it signs.
        def by_the_new_key() -> str | None:
            token = self.json_login("bob@example.com", NEW)["accessToken"]
            return token if key_of(token) != key_of(minted) else None

        late = wait_for("the new key signs", by_the_new_key)

        # --- the restore, and each row of the table
        self.walk("restore")
        self.assertEqual(stat.S_IMODE((self.home / "passgate.db").stat().st_mode), 0o600)
        self.assertEqual(self.status(cookie), 200, "an ended session is open again")
        self.assertEqual(request(self.gateway.port, "GET", "/x", bearer(minted)).status, 200, "a revocation is gone")
        self.assertEqual(self.sign_in("bob@example.com", NEW), 401)
        self.assertIn("=", self.sign_in("bob@example.com", OLD))
        shown = json.loads(self.passgate("user", "show", "alice@example.com", "--format", "json"))
        self.assertFalse(shown["disabled"])
        shown = json.loads(self.passgate("user", "show", "bob@example.com", "--format", "json"))
        self.assertEqual(shown["roles"], ["user"])
        emails = [account["email"] for account in json.loads(self.passgate("user", "list", "--format", "json"))]
        self.assertEqual(sorted(emails), ["alice@example.com", "bob@example.com"])
        self.assertEqual(request(self.gateway.port, "GET", "/x", bearer(late)).status, 401)
        wait_for("its reason in the log", lambda: any(line["reason"] == "key-unknown" for line in self.gateway.log()))
        # A refresh token that was used since the copy: its successor is unknown.
        used = self.refresh(client["refreshToken"])
        self.assertEqual(used.status, 200)
        self.walk("backup")
        newer = self.refresh(used.json()["refreshToken"])
        self.assertEqual(newer.status, 200)
        self.walk("restore")
        self.assertEqual(self.refresh(newer.json()["refreshToken"]).status, 401)

        # --- all sessions end
        self.walk("sessions")
        self.assertEqual(json.loads(self.passgate("session", "list", "--format", "json")), [])
        wait_for("the session ends", lambda: self.status(cookie) != 200)

        # --- a plain copy of a stopped gateway
        self.walk("copy")
        with sqlite3.connect(copy) as database:
            self.assertEqual(database.execute("SELECT count(*) FROM accounts").fetchone(), (2,))
        database.close()

        # --- a stolen copy: no token by its key is accepted
        stolen = self.passgate("token", "mint", "--subject", "thief").strip()
        self.assertEqual(request(self.gateway.port, "GET", "/x", bearer(stolen)).status, 200)
        self.walk("stolen")
        self.assertEqual(request(self.gateway.port, "GET", "/x", bearer(stolen)).status, 401)
        self.assertEqual(len(json.loads(self.passgate("key", "list", "--format", "json"))), 1)
        self.assertIn("=", self.sign_in("bob@example.com", OLD))

        # --- a running gateway detects that its file was replaced
        cookie = self.sign_in("bob@example.com", OLD)
        os.replace(copy, self.home / "passgate.db")
        wait_for("requests are refused", lambda: self.status(cookie) == 503)
        self.assertIn("replaced", self.gateway.stderr.read_text())
