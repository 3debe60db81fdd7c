"""Apps below a path: their answers work for a client that knows only the gateway."""

import http.client
import http.cookiejar
import json
import re
import socket
import sys
import urllib.request

from harness import APPS, Gateway, Nginx, PeerTest, Process, base, free_port, request, wait_for


class Below(PeerTest):
    @classmethod
    def prepare(cls):
        cls.flask, cls.fastapi = (cls.python_app(kind) for kind in ("flask", "fastapi"))
        files = cls.directory / "files"
        (files / "sub").mkdir(parents=True)
        (files / "sub" / "index.html").write_text("<a href='other.html'>other</a>")
        (files / "sub" / "other.html").write_text("other")
        cls.nginx_port = free_port()
        cls.start(
            Nginx(
                cls.directory,
                "static",
                cls.nginx_port,
                f"""
                server {{
                    listen 127.0.0.1:{cls.nginx_port};
                    root {files};
                    location = /named {{ return 302 http://127.0.0.1:{cls.nginx_port}/sub/; }}
                    location = /elsewhere {{ return 302 https://elsewhere.example/sub/; }}
                }}
                """,
            )
        )
        route = """
            [upstreams.{name}]
            servers = ["http://127.0.0.1:{port}"]
            {host}
            [[routes]]
            path = "/{name}/*"
            auth = "none"
            upstream = "{name}"
            strip_prefix = "/{name}"
            """
        routes = [
            route.format(name="flask", port=cls.flask, host=""),
            route.format(name="fastapi", port=cls.fastapi, host=""),
            # nginx uses its own port in redirects.
            route.format(name="static", port=cls.nginx_port, host='host = "127.0.0.1"'),
            f"""
            [upstreams.base]
            servers = ["http://127.0.0.1:{cls.nginx_port}/sub"]
            [[routes]]
            path = "/*"
            auth = "none"
            upstream = "base"
            """,
        ]
        cls.gateway = cls.start(Gateway(cls.directory, base(cls.directory, cls.signer) + "".join(routes)))

    @classmethod
    def python_app(cls, kind: str) -> int:
        port = free_port()
        process = cls.start(Process(kind, [sys.executable, APPS / "below_prefix.py", kind, port], cls.directory))

        def accepts():
            if process.child.poll() is not None:
                raise AssertionError(process.text())
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return True
            except OSError:
                return False

        wait_for(f"{kind} on port {port}", accepts)
        return port

    def follow(self, path: str) -> tuple[str, bytes]:
        """A client that follows redirects and keeps cookies; returns the final address and its content."""
        cookies = urllib.request.HTTPCookieProcessor(self.cookies)
        with urllib.request.build_opener(cookies).open(self.gateway.url + path, timeout=30) as answer:
            self.assertEqual(answer.status, 200)
            return answer.url.removeprefix(self.gateway.url), answer.read()

    def setUp(self):
        self.cookies = http.cookiejar.CookieJar()

    def test_fastapi_redirects_to_its_own_path_with_a_slash(self):
        self.assertEqual(request(self.gateway.port, "GET", "/fastapi/items").fields["location"], "/fastapi/items/")
        arrived, body = self.follow("/fastapi/items")
        self.assertEqual(arrived, "/fastapi/items/")
        self.assertEqual(json.loads(body), {"items": [1, 2, 3]})
        self.assertEqual(self.follow("/fastapi/moved")[0], "/fastapi/items/")
        self.assertEqual([(cookie.name, cookie.path) for cookie in self.cookies], [("theme", "/fastapi/items")])

    def test_flask_makes_links_with_the_prefix_and_its_redirects_and_session_work(self):
        arrived, body = self.follow("/flask/old")
        self.assertEqual(arrived, "/flask/items/")
        links = json.loads(body)
        self.assertEqual(links["link"], "/flask/old")
        self.assertEqual(links["absolute"], f"{self.gateway.url}/flask/old")
        self.assertEqual(self.follow(links["link"])[0], "/flask/items/")
        self.assertEqual(json.loads(self.follow("/flask/seen")[1]), {"seen": "items"})
        self.assertEqual([cookie.path for cookie in self.cookies], ["/flask"])

    def test_address_of_nginx_is_not_in_answers(self):
        for path in ("/static/sub", "/static/named"):
            answer = request(self.gateway.port, "GET", path)
            self.assertEqual(answer.fields["location"], "/static/sub/", path)
            arrived, body = self.follow(path)
            self.assertEqual(arrived, "/static/sub/")
            link = re.search(rb"href='([^']*)'", body)[1].decode()
            self.assertEqual(self.follow(arrived + link)[1], b"other")
        answer = request(self.gateway.port, "GET", "/static/elsewhere")
        self.assertEqual(answer.fields["location"], "https://elsewhere.example/sub/")

    def test_base_path_of_the_server_is_prepended(self):
        self.assertEqual(self.follow("/other.html"), ("/other.html", b"other"))


if __name__ == "__main__":
    import unittest

    unittest.main()
