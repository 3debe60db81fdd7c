"""The shared part of the tests in this directory: processes that end with the test, a gateway on its own port, tokens.

Everything listens on 127.0.0.1, on ports that the system chooses. What a test started is stopped by its process id, and
nothing else is.
"""

import base64
import ctypes
import hashlib
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
APPS = HERE / "apps"
PATIENCE = 30.0  # seconds until a wait counts as failed

AUDIENCE = "api"
ISSUER = "https://issuer.test"


def binary() -> str:
    """The passgate under test: $PASSGATE, or the release build of this checkout."""
    path = pathlib.Path(os.environ.get("PASSGATE", REPOSITORY / "target/release/passgate"))
    if not path.is_file():
        raise SystemExit(f"no passgate at `{path}`\nhint: run `cargo build --release`, or set PASSGATE")
    return str(path)


def free_port() -> int:
    """A free port, for software that cannot choose one itself."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(what: str, condition, patience: float = PATIENCE):
    """Waits until `condition()` is true, and returns its value."""
    deadline = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience:.0f} s in vain: {what}")
        time.sleep(0.02)


def _end_with_parent():
    ctypes.CDLL("libc.so.6", use_errno=True).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


class Process:
    """A child process; its output goes to files, so that a full pipe cannot block it."""

    def __init__(
        self,
        name: str,
        command: list,
        directory: pathlib.Path,
        keep_input: bool = False,
        env: dict | None = None,
        cwd: pathlib.Path | None = None,
    ):
        self.name = name
        self.stdout = directory / f"{name}.stdout"
        self.stderr = directory / f"{name}.stderr"
        self.child = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE if keep_input else subprocess.DEVNULL,
            stdout=self.stdout.open("wb"),
            stderr=self.stderr.open("wb"),
            env={**os.environ, **(env or {})},
            cwd=cwd,
            preexec_fn=_end_with_parent,
        )

    @property
    def pid(self) -> int:
        return self.child.pid

    def text(self) -> str:
        """All output so far."""
        parts = [self.stdout.read_text(errors="replace")[-4000:], self.stderr.read_text(errors="replace")[-4000:]]
        return f"--- {self.name} stdout\n{parts[0]}\n--- {self.name} stderr\n{parts[1]}"

    def line(self, stream: pathlib.Path, pattern: str) -> re.Match:
        """Waits for a line of `stream` that matches."""

        def look():
            found = re.search(pattern, stream.read_text(errors="replace"), re.MULTILINE)
            if not found and self.child.poll() is not None:
                raise AssertionError(f"`{self.name}` ended with {self.child.returncode}\n{self.text()}")
            return found

        return wait_for(f"`{pattern}` from {self.name}\n{self.text()}", look)

    def stop(self, patience: float = PATIENCE) -> int:
        """SIGTERM, then SIGKILL if needed; returns the exit status."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(patience)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        return self.child.returncode


def run(*command, **options) -> subprocess.CompletedProcess:
    """Runs a command to its end and returns its output as text; a failure shows the output."""
    options = {"timeout": 120, **options}
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, stdin=subprocess.DEVNULL, **options
    )
    if done.returncode != 0:
        raise AssertionError(
            f"`{' '.join(map(str, command))}` ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
    return done


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Signer:
    """An issuer that is a key file: RS256 by the `openssl` command, so that no Python package is needed."""

    def __init__(self, directory: pathlib.Path):
        self.private_key = directory / "issuer.key"
        self.public_key = directory / "issuer.pem"
        run("openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", self.private_key)
        run("openssl", "pkey", "-in", self.private_key, "-pubout", "-out", self.public_key)

    def token(self, subject: str = "alice", roles=("user",), expires_in: int = 3600, **claims) -> str:
        now = int(time.time())
        payload = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": subject,
            "roles": list(roles),
            "iat": now,
            "exp": now + expires_in,
            **claims,
        }
        parts = [{"alg": "RS256", "typ": "JWT"}, payload]
        signed = ".".join(base64url(json.dumps(part).encode()) for part in parts)
        signature = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", str(self.private_key)],
            input=signed.encode(),
            capture_output=True,
            check=True,
        ).stdout
        return f"{signed}.{base64url(signature)}"


class Authority:
    """A certificate authority for one test run, and certificates by it."""

    def __init__(self, directory: pathlib.Path):
        self.directory = directory
        self.certificate = directory / "ca.pem"
        self.key = directory / "ca.key"
        run(
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "2",
            "-subj", "/CN=peers", "-keyout", self.key, "-out", self.certificate,
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign",
        )  # fmt: skip

    def issue(self, name: str, *alternatives: str) -> tuple[pathlib.Path, pathlib.Path]:
        """Chain and key for `name`; further names as in `IP:127.0.0.1`."""
        certificate, key, request = (self.directory / f"{name}.{kind}" for kind in ("pem", "key", "csr"))
        names = ",".join([f"DNS:{name}", *alternatives])
        run(
            "openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc",
            "-subj", f"/CN={name}", "-keyout", key, "-out", request, "-addext", f"subjectAltName={names}",
        )  # fmt: skip
        run(
            "openssl", "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial",
            "-days", "2", "-copy_extensions", "copy", "-out", certificate,
        )  # fmt: skip
        return certificate, key


class Gateway(Process):
    """`passgate run` on a TOML file, ready to answer."""

    def __init__(
        self,
        directory: pathlib.Path,
        toml: str,
        name: str = "passgate",
        prefix: tuple = (),
        env: dict | None = None,
        until_ready: bool = True,
    ):
        self.config = directory / f"{name}.toml"
        self.config.write_text(toml)
        super().__init__(name, [*prefix, binary(), "run", "-c", self.config], directory, env=env)
        public = self.line(self.stderr, r"listening on (https?)://127\.0\.0\.1:(\d+)")
        self.scheme, self.port = public[1], int(public[2])
        self.url = f"{self.scheme}://127.0.0.1:{self.port}"
        self.admin_port = int(self.line(self.stderr, r"admin on http://127\.0\.0\.1:(\d+)")[1])
        if until_ready:
            wait_for(f"/ready of {name}\n{self.text()}", self.ready)

    def ready(self) -> bool:
        try:
            return request(self.admin_port, "GET", "/ready").status == 200
        except OSError:
            return False

    def memory(self) -> int:
        """Resident bytes now."""
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024

    def metrics(self) -> str:
        return request(self.admin_port, "GET", "/metrics").body.decode()

    def log(self) -> list[dict]:
        """The access log so far."""
        lines = self.stdout.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]


class Answer:
    """Status, fields (names in lower case) and body."""

    def __init__(self, response: http.client.HTTPResponse):
        self.status = response.status
        self.fields = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    def json(self):
        return json.loads(self.body)


def request(
    port: int, method: str, path: str, headers: dict | None = None, body=None, timeout: float = PATIENCE
) -> Answer:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        return Answer(connection.getresponse())
    finally:
        connection.close()


def bearer(token: str) -> dict:
    return {"Authorization": f"Bearer {token}"}


BASE = """
[server]
listen = "127.0.0.1:0"
public_url = "http://gateway.test"
{server}
[admin]
listen = "127.0.0.1:0"

[state]
url = "sqlite:{state}"

[issuers.test]
issuer = "https://issuer.test"
audiences = ["api"]
algorithms = ["RS256"]
public_key_file = "{key}"
roles_claims = ["roles"]
"""


def base(directory: pathlib.Path, signer: Signer, server: str = "") -> str:
    """The common first part of a TOML file; `server` has further keys of `[server]`."""
    state = directory / f"state-{hashlib.sha256(os.urandom(8)).hexdigest()[:8]}.db"
    return BASE.format(key=signer.public_key, state=state, server=server)


class Nginx(Process):
    """Debian's nginx with a configuration of its own, in the foreground, one worker."""

    CONFIGURATION = """
    daemon off;
    {user}
    worker_processes 1;
    pid {directory}/{name}.pid;
    error_log stderr warn;
    {main}
    events {{ worker_connections 4096; }}
    http {{
        access_log off;
        client_body_temp_path {directory}/{name}-body;
        proxy_temp_path {directory}/{name}-proxy;
        fastcgi_temp_path {directory}/{name}-fastcgi;
        uwsgi_temp_path {directory}/{name}-uwsgi;
        scgi_temp_path {directory}/{name}-scgi;
        {http}
    }}
    """

    def __init__(self, directory: pathlib.Path, name: str, port: int, http: str, main: str = "", prefix: tuple = ()):
        self.port = port
        user = "user root;" if os.geteuid() == 0 else ""
        configuration = directory / f"{name}.conf"
        configuration.write_text(
            self.CONFIGURATION.format(directory=directory, name=name, http=http, main=main, user=user)
        )
        nginx = shutil.which("nginx") or "/usr/sbin/nginx"
        super().__init__(name, [*prefix, nginx, "-p", directory, "-c", configuration, "-e", "stderr"], directory)
        wait_for(f"{name} on port {port}\n{self.text()}", self.accepts)

    def accepts(self) -> bool:
        if self.child.poll() is not None:
            raise AssertionError(f"nginx ended\n{self.text()}")
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False


class NodeApp(Process):
    """One of `apps/*.mjs`, which prints its address on its first line."""

    def __init__(self, directory: pathlib.Path, name: str, *arguments: str, keep_input: bool = False):
        super().__init__(name, ["node", APPS / f"{name}.mjs", *arguments], directory, keep_input=keep_input)
        self.hello = json.loads(self.line(self.stdout, r"^\{.*\}$")[0])
        self.port = self.hello["port"]


class Sampler:
    """The highest value of a function while a block runs."""

    def __init__(self, measure):
        self.measure = measure
        self.first = self.highest = 0

    def __enter__(self):
        self.first = self.highest = self.measure()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def _watch(self):
        while not self.over.wait(0.02):
            self.highest = max(self.highest, self.measure())

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    @property
    def growth(self) -> int:
        return self.highest - self.first


class PeerTest(unittest.TestCase):
    """A test class with a directory, a signer, and processes that end with it."""

    @classmethod
    def setUpClass(cls):
        cls.directory = pathlib.Path(tempfile.mkdtemp(prefix="passgate-peers-"))
        cls.addClassCleanup(shutil.rmtree, cls.directory, ignore_errors=True)
        cls.signer = Signer(cls.directory)
        cls.prepare()

    @classmethod
    def prepare(cls):
        """Starts what the class needs."""

    @classmethod
    def start(cls, process: Process):
        """Keeps `process` until the end of the class."""
        cls.addClassCleanup(process.stop)
        return process

    def assertDoneBy(self, gateway: Gateway, answer: Answer, status: int):
        self.assertEqual(answer.status, status, f"{answer.body[:500]}\n{gateway.text()}")


def h2load(url: str, *arguments: str, prefix: tuple = ()) -> dict:
    """Runs nghttp2's load client; returns its counts, and what it printed as `text`."""
    done = run(*prefix, "h2load", *arguments, url, timeout=300)
    names = ("total", "started", "done", "succeeded", "failed", "errored", "timeout")
    counts = re.search("requests: " + ", ".join(rf"(\d+) {name}" for name in names), done.stdout)
    codes = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", done.stdout)
    if not counts or not codes:
        raise AssertionError(done.stdout + done.stderr)
    result = dict(zip(names, map(int, counts.groups()), strict=True))
    result.update(zip(("2xx", "3xx", "4xx", "5xx"), map(int, codes.groups()), strict=True))
    result["text"] = done.stdout
    return result
