"""Tests of `docs/migrating-from-express.md`: an Express app with Passport.js, and one with jwt-passport's cookie, before and after.

The files and commands are read from the page, unchanged. A client that was written for the app alone runs against both and must get
the same results.
"""

import base64
import hashlib
import hmac
import http.cookies
import json
import os
import pathlib
import re
import shutil
import sqlite3
import subprocess
import time
import urllib.parse

from harness import (
    APPS,
    HERE,
    REPOSITORY,
    Answer,
    Gateway,
    PeerTest,
    Process,
    base64url,
    bearer,
    binary,
    free_port,
    request,
    run,
    wait_for,
)

PAGE = REPOSITORY / "docs/migrating-from-express.md"
SECRET = "correct horse battery staple, as in every app's .env"
LONG = "a sentence of more than the 72 bytes that bcrypt looks at, which people do type: "

# As the old app has them; the hashes are made by bcryptjs when the test runs.
USERS = [
    {"id": "64f1c0ffee", "email": "Alice@example.com", "name": "Alice Ångström, Dr.", "roles": ["user", "admin"]},
    {"id": "64f1c0ffef", "email": "bob@example.com", "name": "Bob", "roles": ["user"]},
    {"id": "1003", "email": "carol@example.com", "name": None, "roles": []},
    {"id": "1004", "email": "dave@example.com", "name": "Dave", "roles": ["user"], "active": False},
]
PASSWORDS = {
    "Alice@example.com": "alice's old password",
    "bob@example.com": "hunter2",  # shorter than a new one may be
    "carol@example.com": LONG,
    "dave@example.com": "dave's old password",
}
NEWCOMER = {"password": "a newcomer's password", "name": "Zoë 100%"}


def blocks(page: str) -> list[tuple[list[str], str]]:
    """The fenced blocks of a page: the words after the backticks, and the text."""
    found = re.findall(r"^```(\S+)(.*)\n((?:.*\n)*?)```$", page, re.MULTILINE)
    return [([kind, *rest.split()], content) for kind, rest, content in found]


def sign(secret: str, **claims) -> str:
    """A token by HS256 with these claims, as `jsonwebtoken` signs it."""
    parts = [{"alg": "HS256", "typ": "JWT"}, claims]
    signed = ".".join(base64url(json.dumps(part).encode()) for part in parts)
    return f"{signed}.{base64url(hmac.digest(secret.encode(), signed.encode(), hashlib.sha256))}"


def claims(token: str) -> dict:
    middle = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))


class Move(PeerTest):
    """An app that is migrated, in a directory of its own; the common part of both kinds of apps."""

    kind: str  # the directory of the app, and the mark of its blocks on the page
    readme = pathlib.Path(PAGE)

    @classmethod
    def prepare(cls):
        cls.home = cls.directory / "shop"
        cls.home.mkdir()
        (cls.home / "node_modules").symlink_to((HERE / "node_modules").resolve())
        (cls.directory / "bin").mkdir()
        (cls.directory / "bin/passgate").symlink_to(binary())
        cls.environment = {"JWT_SECRET": SECRET, "PATH": f"{cls.directory / 'bin'}:{os.environ['PATH']}"}
        cls.page = blocks(PAGE.read_text())
        cls.ports = {":3000": free_port(), ":8080": free_port(), ":8081": free_port()}
        cls.hash_passwords()
        cls.before()
        cls.walk()

    @classmethod
    def hash_passwords(cls):
        # The prefixes of three generations of bcrypt libraries; the hashes are the same.
        script = """
            import bcrypt from "bcryptjs";
            const passwords = JSON.parse(process.argv[1]);
            console.log(JSON.stringify(passwords.map((password) => bcrypt.hashSync(password, 8))));
        """
        options = ["--input-type=module", "-e", script, json.dumps([PASSWORDS[user["email"]] for user in USERS])]
        hashes = json.loads(run("node", *options, cwd=cls.home).stdout)
        cls.users = [
            {"active": True, **user, "passwordHash": prefix + one[4:]}
            for user, one, prefix in zip(USERS, hashes, ["$2b$", "$2a$", "$2y$", "$2b$"], strict=True)
        ]
        (cls.home / "users.json").write_text(json.dumps(cls.users))

    @classmethod
    def before(cls):
        """The app before the migration."""

    @classmethod
    def app(cls, which: str, port: int = 0) -> Process:
        """Starts a version of the app as `app.mjs`; its `port` is the port that it listens on."""
        for file in (APPS / cls.kind).glob("*.mjs"):
            if not (cls.home / file.name).exists():
                shutil.copy(file, cls.home)
        shutil.copy(APPS / cls.kind / f"{which}.mjs", cls.home / "app.mjs")
        environment = {**cls.environment, "PORT": str(port)}
        name = f"{which}-{time.monotonic_ns()}"
        process = Process(name, ["node", "app.mjs"], cls.directory, env=environment, cwd=cls.home)
        cls.start(process)
        process.port = int(process.line(process.stdout, r"listening on 127\.0\.0\.1:(\d+)")[1])
        return process

    @classmethod
    def write(cls, name: str):
        """A file of the page, all its blocks for this kind of app together."""
        parts = [text for words, text in cls.page if words[1:2] == [name] and words[2:] in ([], [cls.kind_of_blocks])]
        if not parts:
            raise AssertionError(f"no block `{name}` on the page")
        (cls.home / name).write_text(cls.moved("\n".join(parts)))

    @classmethod
    def moved(cls, text: str) -> str:
        """With the ports of this test in place of the page's."""
        return re.sub(r":(3000|8080|8081)\b", lambda found: f":{cls.ports[found[0]]}", text)

    @classmethod
    def commands(cls) -> list[str]:
        return re.findall(
            r"^\$ (.*)$", "".join(text for words, text in cls.page if words[0] == "console"), re.MULTILINE
        )

    @classmethod
    def walk(cls):
        """Follows the steps of the page, in order."""
        for name in ("export-users.mjs", "gateway.toml", "identity.mjs"):
            cls.write(name)
        cls.said = {}
        for command in cls.commands():
            if command == "PORT=3000 node app.mjs":
                cls.after = cls.app("after", cls.ports[":3000"])
            elif command == "passgate run":
                cls.gateway = cls.start(Gateway(cls.home, (cls.home / "gateway.toml").read_text(), "gateway"))
            else:
                done = subprocess.run(
                    ["bash", "-ec", cls.moved(command)],
                    cwd=cls.home,
                    env={**os.environ, **cls.environment},
                    capture_output=True,
                    text=True,
                    timeout=60,
                )
                if done.returncode != 0:
                    raise AssertionError(f"`{command}` ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
                cls.said[command] = done.stdout + done.stderr

    @classmethod
    def client(cls, port: int, told: dict) -> str:
        """The output of the app's client against the server on this port."""
        url = f"http://127.0.0.1:{port}"
        done = subprocess.run(
            ["node", cls.home / "client.mjs", url], input=json.dumps(told), capture_output=True, text=True, timeout=60
        )
        if done.returncode != 0:
            text = "\n".join(process.text() for process in (getattr(cls, "gateway", None),) if process)
            raise AssertionError(f"the client on {url}\n{done.stdout}\n{done.stderr}\n{text}")
        return done.stdout

    @classmethod
    def account(cls, email: str) -> dict:
        return {**next(user for user in cls.users if user["email"] == email), "password": PASSWORDS[email]}

    @classmethod
    def post(cls, port: int, path: str, body: dict, headers: dict | None = None) -> Answer:
        return request(port, "POST", path, {"Content-Type": "application/json", **(headers or {})}, json.dumps(body))

    def login(self, email: str, password: str | None = None) -> Answer:
        return self.post(self.gateway.port, "/auth/login", {"email": email, "password": password or PASSWORDS[email]})

    def get(self, path: str, token: str | None = None, **fields: str) -> Answer:
        return request(self.gateway.port, "GET", path, {**(bearer(token) if token else {}), **fields})

    def hashes(self) -> dict[str, str]:
        """The kind of hash that each account has in the state, by address."""
        state = sqlite3.connect(f"file:{self.home / 'passgate.db'}?mode=ro", uri=True)
        try:
            rows = state.execute("SELECT email, password_hash FROM accounts").fetchall()
        finally:
            state.close()
        return {email: one.split("$")[1] for email, one in rows if one}


class Express(Move):
    """passport-local, passport-jwt, jsonwebtoken, bcrypt, and refresh tokens."""

    kind = "express"
    kind_of_blocks = "passport-jwt"

    @classmethod
    def told(cls, newcomer: str) -> dict:
        expired = sign(
            SECRET, id=USERS[1]["id"], email="bob@example.com", roles=["user"], iat=1_000_000_000, exp=1_000_000_900
        )
        return {
            "admin": cls.account("Alice@example.com"),
            "newcomer": {"email": newcomer, **NEWCOMER},
            "expired": expired,
        }

    @classmethod
    def before(cls):
        app = cls.app("before")
        cls.client_before = cls.client(app.port, cls.told("first@example.com"))
        signed = {}
        for email in ("Alice@example.com", "bob@example.com"):
            answer = cls.post(app.port, "/auth/login", {"email": email, "password": PASSWORDS[email]})
            signed[email] = answer.json()
        cls.old_tokens = signed
        app.stop()

    def test_app_has_no_sign_in_code_left(self):
        imports = re.findall(r'^import .* from "(.*)";$', (APPS / "express/after.mjs").read_text(), re.MULTILINE)
        self.assertEqual(imports, ["express", "./identity.mjs"])

    def test_client_gets_the_same_before_and_after(self):
        self.assertIn("refresh again | 200", self.client_before)
        self.assertEqual(self.client(self.gateway.port, self.told("second@example.com")), self.client_before)

    def test_an_access_token_of_the_old_app_is_good_until_it_expires(self):
        alice, bob = (self.old_tokens[email]["accessToken"] for email in ("Alice@example.com", "bob@example.com"))
        answer = self.get("/api/profile", bob)
        self.assertDoneBy(self.gateway, answer, 200)
        profile = answer.json()["profile"]
        self.assertEqual(
            (profile["id"], profile["email"], profile["roles"]), ("64f1c0ffef", "bob@example.com", ["user"])
        )
        self.assertDoneBy(self.gateway, self.get("/api/admin", bob), 403)
        self.assertDoneBy(self.gateway, self.get("/api/admin", alice), 200)
        self.assertEqual(self.get("/api/feed", bob).json(), {"greeting": "Hello, bob@example.com"})
        me = {"id": "64f1c0ffef", "email": "bob@example.com", "name": None, "roles": ["user"]}
        self.assertEqual(self.get("/auth/me", bob).json(), me)
        self.assertDoneBy(self.gateway, self.get("/api/profile", bob[:-20] + "A" * 20), 401)

    def test_other_tokens_with_the_old_secret_are_refused(self):
        now = int(time.time())
        whole = {"id": "64f1c0ffef", "email": "bob@example.com", "roles": ["user"], "iat": now, "exp": now + 900}
        self.assertDoneBy(self.gateway, self.get("/api/profile", sign(SECRET, **whole)), 200)
        without = {name: {key: value for key, value in whole.items() if key != name} for name in ("id", "exp", "iat")}
        refused = {
            "no id": without["id"],
            "no exp": without["exp"],
            "no iat, so that its age is unknown": without["iat"],
            "expired": {**whole, "exp": now - 60},
            "not yet good": {**whole, "nbf": now + 600},
            # The case for `max_age`: the old app issued this token an hour ago, and it is valid for another week.
            "a refresh token": {**whole, "type": "refresh", "iat": now - 3600, "exp": now + 7 * 86400},
            "of another issuer": {**whole, "iss": "https://elsewhere.example"},
            "for another audience": {**whole, "aud": "elsewhere"},
            "as if passgate had signed it": {**whole, "iss": f"http://127.0.0.1:{self.gateway.port}"},
        }
        for why, payload in refused.items():
            with self.subTest(why):
                self.assertDoneBy(self.gateway, self.get("/api/profile", sign(SECRET, **payload)), 401)
        self.assertDoneBy(
            self.gateway, self.get("/api/profile", sign("another secret of at least 32 bytes", **whole)), 401
        )

    def test_an_old_token_is_no_session_of_the_account_with_its_id(self):
        now = int(time.time())
        session = claims(self.login("bob@example.com").json()["accessToken"])["sid"]
        forged = sign(SECRET, id="64f1c0ffef", sid=session, iat=now, exp=now + 900)
        for method, path in (
            ("GET", "/auth/sessions"),
            ("DELETE", f"/auth/sessions/{session}"),
            ("POST", "/auth/logout"),
        ):
            answer = request(self.gateway.port, method, path, bearer(forged))
            self.assertDoneBy(self.gateway, answer, 401)
        passwords = {"currentPassword": PASSWORDS["bob@example.com"], "newPassword": "a password of somebody else"}
        answer = self.post(self.gateway.port, "/auth/password", passwords, bearer(forged))
        self.assertDoneBy(self.gateway, answer, 401)

    def test_an_old_token_outlives_its_account_unless_it_is_revoked(self):
        now = int(time.time())
        erin = {"email": "erin@example.com", "id": "1006"}
        (self.home / "erin.jsonl").write_text(json.dumps(erin))
        passgate = lambda *arguments: run(binary(), *arguments, cwd=self.home)  # noqa: E731
        passgate("user", "import", "erin.jsonl")
        passgate("user", "disable", "erin@example.com")
        token = sign(SECRET, id="1006", iat=now, exp=now + 900)
        self.assertDoneBy(self.gateway, self.get("/api/profile", token), 200)
        passgate("revoke", "--issuer", "legacy", "--subject", "1006")
        wait_for("the token refused", lambda: self.get("/api/profile", token).status == 401, 2)

    def test_refresh_token_of_the_old_app_is_refused_without_effect(self):
        old = self.old_tokens["bob@example.com"]["refreshToken"]
        answer = self.post(self.gateway.port, "/auth/refresh", {"refreshToken": old})
        self.assertEqual((answer.status, answer.json()["message"]), (401, "Invalid token"))

    def test_imported_passwords_are_valid_and_rehashed_at_sign_in(self):
        self.assertIn("bob@example.com", self.said["passgate user list"])
        self.assertEqual(self.hashes()["carol@example.com"], "2y")
        for email in ("bob@example.com", "carol@example.com"):
            with self.subTest(email):
                self.assertEqual(self.login(email, PASSWORDS[email] + "?" if email[0] == "b" else "wrong").status, 401)
                user = self.account(email)
                for turn in ("imported hash", "new hash"):
                    answer = self.login(email)
                    self.assertDoneBy(self.gateway, answer, 200)
                    signed = claims(answer.json()["accessToken"])
                    self.assertEqual(
                        (signed["sub"], sorted(signed["roles"])), (user["id"], sorted(user["roles"])), turn
                    )
                    self.assertEqual(self.hashes()[email], "argon2id", turn)
        # From now on a long password counts in full.
        self.assertEqual(self.login("carol@example.com", LONG[:72]).status, 401)

    def test_account_registered_at_the_old_app_is_imported(self):
        answer = self.login("FIRST@example.com", NEWCOMER["password"])
        self.assertDoneBy(self.gateway, answer, 200)
        self.assertEqual(claims(answer.json()["accessToken"])["name"], NEWCOMER["name"])

    def test_disabled_account_stays_disabled_with_the_same_answer(self):
        disabled, unknown = self.login("dave@example.com"), self.login("nobody@example.com", "whatever it is")
        self.assertEqual((disabled.status, disabled.json()["message"]), (401, "Invalid credentials"))
        different = {"request_id"}
        self.assertEqual(*({k: v for k, v in one.json().items() if k not in different} for one in (disabled, unknown)))

    def test_the_name_reaches_the_app_as_it_was_typed(self):
        token = self.login("Alice@example.com").json()["accessToken"]
        self.assertEqual(self.get("/api/profile", token).json()["profile"]["name"], "Alice Ångström, Dr.")

    def test_no_spelling_of_a_path_bypasses_a_role(self):
        token = self.old_tokens["bob@example.com"]["accessToken"]
        for path in (
            "/api/admin",
            "/api/admin/",
            "/API/ADMIN",
            "/api/Admin/",
            "/api/%61dmin",
            "/api//admin",
            "/api/x/../admin",
        ):
            with self.subTest(path):
                self.assertNotEqual(self.get(path, token).status, 200)

    def test_visible_changes_are_those_of_the_page(self):
        new = {"email": "third@example.com", "password": "2short"}
        self.assertEqual(self.post(self.gateway.port, "/auth/register", new).json()["message"], "Password too short")
        new["password"] = "password123"
        self.assertEqual(self.post(self.gateway.port, "/auth/register", new).json()["message"], "Password too common")
        bob = {"email": "bob@example.com", "password": PASSWORDS["bob@example.com"]}
        for page in ({"Origin": "https://app.example.com"}, {"Sec-Fetch-Site": "same-site"}):
            self.assertDoneBy(self.gateway, self.post(self.gateway.port, "/auth/login", bob, page), 403)
        token = self.login("Alice@example.com").json()["accessToken"]
        self.assertDoneBy(self.gateway, self.get("/auth/forgot", token), 404)
        wrong = {"email": "throttled@example.com", "password": "wrong"}
        statuses = [self.post(self.gateway.port, "/auth/login", wrong).status for _ in range(11)]
        self.assertEqual(statuses, [401] * 10 + [429])

    def test_the_import_can_be_done_again(self):
        """For accounts that register between the export and the move."""
        late = {"email": "late@example.com", "password_hash": self.users[0]["passwordHash"], "roles": ["user"]}
        lines = [{"email": "bob@example.com", "password_hash": late["password_hash"]}, late]
        (self.home / "again.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        command = [binary(), "user", "import", "--skip-bad", "-c", "gateway.toml", "again.jsonl"]
        done = subprocess.run(command, cwd=self.home, capture_output=True, text=True, timeout=60)
        self.assertRegex(done.stdout + done.stderr, r"line 1: .*account with this email address already")
        self.assertDoneBy(self.gateway, self.login("late@example.com", PASSWORDS["Alice@example.com"]), 200)
        self.assertDoneBy(self.gateway, self.login("bob@example.com"), 200)


class JwtPassport(Move):
    """jwt-passport: a JWT in a cookie, with save, find and delete."""

    kind = "jwt-passport"
    kind_of_blocks = "jwt-passport"
    NAVIGATION = {
        "Accept": "text/html",
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-Dest": "document",
        "Sec-Fetch-Site": "none",
    }

    @classmethod
    def told(cls) -> dict:
        return {"admin": cls.account("Alice@example.com"), "user": cls.account("bob@example.com")}

    @classmethod
    def before(cls):
        app = cls.app("before")
        cls.client_before = cls.client(app.port, cls.told())
        cls.endless = cls.old_cookie(app.port, "Alice@example.com")
        app.stop()
        # As the page advises, some days before the move.
        cls.write("create-token.mjs")
        app = cls.app("before")
        assert cls.client(app.port, cls.told()) == cls.client_before
        over = sign(SECRET, **{**claims(cls.old_cookie(app.port, "bob@example.com")), "exp": int(time.time()) - 60})
        cls.renewed = request(app.port, "GET", "/account", {"Cookie": f"__session={over}"})
        cls.old_cookies = {email: cls.old_cookie(app.port, email) for email in ("Alice@example.com", "bob@example.com")}
        app.stop()

    @classmethod
    def old_cookie(cls, port: int, email: str) -> str:
        form = urllib.parse.urlencode({"email": email, "password": PASSWORDS[email]})
        answer = request(port, "POST", "/auth/login", {"Content-Type": "application/x-www-form-urlencoded"}, form)
        return http.cookies.SimpleCookie(answer.fields["set-cookie"])["__session"].value

    def go(self, path: str, cookie: str | None = None) -> Answer:
        return self.get(path, **self.NAVIGATION, **({"Cookie": f"__session={cookie}"} if cookie else {}))

    def test_the_browser_sees_the_same_before_and_after(self):
        self.assertIn("sign in | done", self.client_before)
        self.assertEqual(self.client(self.gateway.port, self.told()), self.client_before)

    def test_a_cookie_of_the_old_app_is_good_until_it_expires(self):
        alice, bob = self.old_cookies["Alice@example.com"], self.old_cookies["bob@example.com"]
        self.assertEqual(self.go("/", bob).body.decode(), "Welcome, Bob!")
        self.assertEqual(self.go("/account", bob).body.decode(), "64f1c0ffef bob@example.com")
        self.assertDoneBy(self.gateway, self.go("/staff", bob), 403)
        self.assertDoneBy(self.gateway, self.go("/staff", alice), 200)

    def test_the_old_app_renews_a_cookie_that_has_expired(self):
        """The page states that an `exp` in its cookies signs no user out."""
        self.assertEqual(self.renewed.body.decode(), "64f1c0ffef bob@example.com")
        cookie = http.cookies.SimpleCookie(self.renewed.fields["set-cookie"])["__session"].value
        self.assertGreater(claims(cookie)["exp"], time.time() + 3000)

    def test_cookie_without_expiry_counts_as_absent(self):
        self.assertNotIn("exp", claims(self.endless), "jwt-passport ignores its own `expiresIn`")
        answer = self.go("/account", self.endless)
        location = urllib.parse.unquote(answer.fields["location"])
        self.assertEqual((answer.status, location), (302, "/auth/login?return_to=/account"))
        self.assertEqual(self.go("/", self.endless).body.decode(), "Welcome, guest!")

    def test_an_old_cookie_can_be_revoked(self):
        now = int(time.time())
        mallory = {"iss": "https://shop.example", "aud": "shop", "sub": "1005", "iat": now, "exp": now + 3600}
        cookie = sign(SECRET, **mallory, jti="stolen")
        self.assertDoneBy(self.gateway, self.go("/account", cookie), 200)
        run(binary(), "revoke", "-c", self.home / "gateway.toml", "--issuer", "legacy", "--subject", "1005")
        wait_for("the cookie refused", lambda: self.go("/account", cookie).status == 302, 2)
