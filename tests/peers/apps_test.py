"""Tests of `docs/apps.md`: the programs of the page with the real frameworks, the table of paths, and the routes in front of each.

Each program of the page is written to a file and run unchanged. `apps/frameworks` has the programs that the page only describes.
"""

import http.client
import re
import socket

from harness import (
    APPS,
    HERE,
    PATIENCE,
    REPOSITORY,
    Answer,
    Gateway,
    Nginx,
    PeerTest,
    Process,
    base,
    bearer,
    free_port,
    wait_for,
)

PAGE = (REPOSITORY / "docs/apps.md").read_text()
SECRET = b"the secret"
PREFIX = {"X-Forwarded-Prefix": "/shop"}


def block(heading: str, language: str) -> str:
    """The first fenced block of a language below a heading of the page."""
    return blocks_below(heading, language)[0]


def blocks_below(heading: str, language: str) -> list[str]:
    """All fenced blocks of a language from a heading to the end of the page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.split(f"# {heading}\n", 1)[1], re.M | re.S)


def table() -> dict[str, dict[str, str]]:
    """Path → column → cell, of the table of paths."""
    lines = re.search(r"^\| path \|.*\n(?:\|.*\n)+", PAGE, re.M)[0].splitlines()
    names, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0].strip("`"): dict(zip(names[1:], row[1:], strict=True)) for row in rows}


def ask(port: int, method: str, path: str, headers: dict | None = None, body: str | None = None) -> Answer:
    """One request whose path is sent unchanged."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.putrequest(method, path)
        data = None if body is None else body.encode()
        if data is not None:
            connection.putheader("Content-Type", "application/x-www-form-urlencoded")
            connection.putheader("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        connection.endheaders(data)
        return Answer(connection.getresponse())
    finally:
        connection.close()


class Framework(PeerTest):
    """One app, and passgate in front of it with the routes of the page."""

    name = ""
    #: Whether the program is one of the page, which tells the caller and its links.
    is_on_page = True

    @classmethod
    def command(cls) -> tuple[list, dict]:
        raise NotImplementedError

    @classmethod
    def prepare(cls):
        cls.port = free_port()
        command, options = cls.command()
        env = {"PORT": str(cls.port), **options.pop("env", {})}
        cls.app = cls.start(Process(cls.name.lower(), command, cls.directory, env=env, **options))
        wait_for(f"{cls.name}\n{cls.app.text()}", cls.answers)
        upstream = f'[upstreams.app]\nservers = ["http://127.0.0.1:{cls.port}"]\n'
        safe, open_wide = blocks_below("Routes that are safe", "toml")[:2]
        cls.safe = cls.start(Gateway(cls.directory, base(cls.directory, cls.signer) + upstream + safe, "safe"))
        cls.wide = cls.start(Gateway(cls.directory, base(cls.directory, cls.signer) + upstream + open_wide, "wide"))
        cls.user = bearer(cls.signer.token("user-1", ["user"]))
        cls.admin = bearer(cls.signer.token("admin-1", ["admin"]))

    @classmethod
    def answers(cls) -> bool:
        if cls.app.child.poll() is not None:
            raise AssertionError(f"{cls.name} ended\n{cls.app.text()}")
        try:
            return ask(cls.port, "GET", "/").status == 200
        except OSError:
            return False

    def reaches(self, port: int, path: str, headers: dict | None = None) -> bool:
        answer = ask(port, "GET", path, headers)
        return answer.status == 200 and SECRET in answer.body

    def test_app_treats_the_paths_of_the_table_as_equal(self):
        expected = {path: row[self.name] == "✓" for path, row in table().items()}
        found = {path: self.reaches(self.port, path) for path in expected}
        self.assertEqual(found, expected)

    def test_safe_routes_admit_only_administrators_in_every_spelling(self):
        for path, row in table().items():
            with self.subTest(path):
                for caller in ({}, self.user):
                    answer = ask(self.safe.port, "GET", path, caller)
                    self.assertIn(answer.status, (400, 401, 403), f"{answer.body}\n{self.safe.text()}")
                answer = ask(self.safe.port, "GET", path, self.admin)
                if row["passgate"] == "400":
                    self.assertEqual(answer.status, 400)
                elif row[self.name] == "✓":
                    self.assertEqual((answer.status, answer.body), (200, SECRET))
        self.assertEqual(ask(self.safe.port, "GET", "/", self.user).status, 200)

    def test_wide_routes_expose_only_the_paths_of_the_warning(self):
        if self.name in ("Express", "Koa"):
            # The page asks for settings that these programs do not have.
            self.assertTrue(self.reaches(self.wide.port, "/ADMIN/secret", self.user))
            return
        for path in table():
            with self.subTest(path):
                self.assertFalse(self.reaches(self.wide.port, path))
                self.assertFalse(self.reaches(self.wide.port, path, self.user))
        self.assertTrue(self.reaches(self.wide.port, "/admin/secret", self.admin))

    def test_app_reads_the_caller_and_no_forged_one(self):
        if not self.is_on_page:
            return
        token = self.signer.token("u-1", ["admin", "a,b"], name="José Łódź")
        forged = {"X-Auth-Name": "forged", "X_Auth_User": "forged", **bearer(token)}
        told = ask(self.safe.port, "GET", "/", forged).json()
        self.assertEqual((told["id"], told["name"], list(told["roles"])), ("u-1", "José Łódź", ["admin", "a,b"]))
        self.assertEqual((told["link"], told["signOut"]), ("/admin/secret", "/auth/logout"))

    def test_links_have_the_prefix_that_was_cut_off(self):
        if self.is_on_page:
            self.assertEqual(ask(self.port, "GET", "/", PREFIX).json()["link"], "/shop/admin/secret")


class Node:
    file = "app.mjs"

    @classmethod
    def command(cls):
        program = cls.directory / cls.file
        program.write_text(block(cls.name, "js"))
        (cls.directory / "node_modules").symlink_to(HERE / "node_modules")
        return ["node", program], {}


class Express(Node, Framework):
    name = "Express"


class Fastify(Node, Framework):
    name = "Fastify"


class Koa(Framework):
    name = "Koa"
    is_on_page = False

    @classmethod
    def command(cls):
        return ["node", APPS / "frameworks/koa.mjs"], {}


class Python:
    @classmethod
    def command(cls):
        (cls.directory / "program.py").write_text(block(cls.name, "python"))
        return cls.server(), {"cwd": cls.directory}


class Flask(Python, Framework):
    name = "Flask"

    @classmethod
    def server(cls):
        return ["python3", "-m", "flask", "--app", "program", "run", "--port", cls.port]


class FastAPI(Python, Framework):
    name = "FastAPI"

    @classmethod
    def server(cls):
        return ["python3", "-m", "uvicorn", "program:app", "--port", cls.port]


class Django(Python, Framework):
    name = "Django"

    @classmethod
    def server(cls):
        return ["python3", "-m", "gunicorn", "program:application", "--bind", f"127.0.0.1:{cls.port}"]


class Php(Framework):
    name = "PHP"

    @classmethod
    def command(cls):
        root = cls.directory / "public"
        root.mkdir()
        (root / "index.php").write_text(block(cls.name, "php"))
        return ["php", "-S", f"127.0.0.1:{cls.port}", "-t", root], {}


def is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


class DecodedTwice(PeerTest):
    """An app's own nginx that decodes a path before it passes it on."""

    @classmethod
    def prepare(cls):
        app, own = free_port(), free_port()
        program = cls.directory / "app.mjs"
        program.write_text(block("Fastify", "js"))  # which decodes a path before it matches it
        (cls.directory / "node_modules").symlink_to(HERE / "node_modules")
        fastify = cls.start(Process("app", ["node", program], cls.directory, env={"PORT": str(app)}))
        wait_for(f"the app\n{fastify.text()}", lambda: is_open(app))
        server = f"server {{ listen 127.0.0.1:{own}; location / {{ proxy_pass http://127.0.0.1:{app}$uri; }} }}"
        cls.nginx = cls.start(Nginx(cls.directory, "own", own, http=server))
        wide = blocks_below("Routes that are safe", "toml")[1]
        upstream = f'[upstreams.app]\nservers = ["http://127.0.0.1:{own}"]\n'
        cls.gateway = cls.start(Gateway(cls.directory, base(cls.directory, cls.signer) + upstream + wide))

    def test_double_encoding_passes_nginx_and_not_passgate(self):
        for path in ("/%2561dmin/secret", "/%25%36%31dmin/secret"):
            self.assertEqual(ask(self.nginx.port, "GET", path).body, SECRET)
            answer = ask(self.gateway.port, "GET", path)
            self.assertEqual(answer.status, 400, self.gateway.text())
        wait_for(
            f"two log lines\n{self.gateway.text()}",
            lambda: [line["reason"] for line in self.gateway.log()] == ["path-double-encoding"] * 2,
        )


class MethodOverride(PeerTest):
    """An app that takes the method of a POST from elsewhere."""

    @classmethod
    def prepare(cls):
        cls.port = free_port()
        program = APPS / "frameworks/overrides.mjs"
        app = cls.start(Process("overrides", ["node", program], cls.directory, env={"PORT": str(cls.port)}))
        wait_for(f"the app\n{app.text()}", lambda: is_open(cls.port))
        upstream = f'[upstreams.app]\nservers = ["http://127.0.0.1:{cls.port}"]\n'
        cls.toml = base(cls.directory, cls.signer) + upstream
        routes = blocks_below("Methods", "toml")[0]
        cls.gateway = cls.start(Gateway(cls.directory, cls.toml + routes))
        cls.user = bearer(cls.signer.token("user-1", ["user"]))
        cls.admin = bearer(cls.signer.token("admin-1", ["admin"]))

    def test_method_override_by_header_is_removed(self):
        for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
            self.assertEqual(ask(self.port, "POST", "/items/1", {name: "DELETE"}).body, b"ran DELETE")
            answer = ask(self.gateway.port, "POST", "/items/1", {name: "DELETE", **self.admin})
            self.assertEqual((answer.status, answer.body), (200, b"ran POST"))

    def test_routes_of_the_page_refuse_post_where_delete_is_refused(self):
        for path, body in (("/items/1?_method=DELETE", ""), ("/items/1", "_method=DELETE")):
            self.assertEqual(ask(self.port, "POST", path, body=body).body, b"ran DELETE")
            self.assertEqual(ask(self.gateway.port, "POST", path, self.user, body).status, 403)
        self.assertEqual(ask(self.gateway.port, "GET", "/items/1", self.user).body, b"ran GET")

    def test_check_warns_where_post_asks_for_less(self):
        routes = blocks_below("Methods", "toml")[0]
        weak = self.toml + routes.replace('"POST", ', "").replace('"GET", "HEAD"', '"GET", "HEAD", "POST"')
        gateway = self.start(Gateway(self.directory, weak, "weak"))
        self.assertIn("POST asks for less here than", gateway.text())
        self.assertEqual(ask(gateway.port, "POST", "/items/1", self.user, "_method=DELETE").body, b"ran DELETE")


class NamesBeyondAscii(PeerTest):
    """Apps with auth-proxy support show what they get: under the presets of other products, the name itself."""

    def test_a_name_with_accents_is_shown_under_the_presets_of_other_products(self):
        token = self.signer.token("u-1", ["équipe"], name="José Łódź", preferred_username="José Łódź")
        for preset, header, shown in (
            ("authelia", "Remote-Name", "José Łódź"),
            ("oauth2-proxy", "X-Forwarded-Preferred-Username", "José Łódź"),
            ("oauth2-proxy", "X-Forwarded-Groups", "équipe"),
            ("passgate", "X-Auth-Name", "Jos%C3%A9 %C5%81%C3%B3d%C5%BA"),
        ):
            with self.subTest(preset=preset, header=header):
                port = free_port()
                program = APPS / "frameworks/profile.py"
                app = self.start(Process(f"{preset}-{header}", ["python3", program, port, header], self.directory))
                wait_for(f"the app\n{app.text()}", lambda: is_open(port))
                toml = (
                    base(self.directory, self.signer)
                    + f'[identity]\npreset = "{preset}"\n[upstreams.app]\nservers = ["http://127.0.0.1:{port}"]\n'
                    + '[[routes]]\npath = "/*"\nupstream = "app"\n'
                )
                gateway = self.start(Gateway(self.directory, toml, f"gateway-{preset}-{header}"))
                answer = ask(gateway.port, "GET", "/", bearer(token))
                self.assertIn(f"<b>{shown}</b>", answer.body.decode(), gateway.text())


# Only the subclasses of this class are tests.
del Framework
