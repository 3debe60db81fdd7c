"""Tests of `docs/docker.md`: the compose file is checked, and the steps of the Dockerfile run in a Debian directory tree.

No image is pulled or built: mmdebstrap makes the tree of `FROM debian:bookworm-slim` from Debian's packages.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import unittest

from harness import PATIENCE, REPOSITORY, binary, free_port, request, run, wait_for

FILES = REPOSITORY / "docs/docker"
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "passgate-ci"


def instructions() -> list[list[tuple[str, str]]]:
    """The stages of the Dockerfile, each a list of (instruction, rest of the line)."""
    stages: list[list[tuple[str, str]]] = []
    for line in (FILES / "Dockerfile").read_text().replace("\\\n", " ").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, rest = line.split(None, 1)
        if name == "FROM":
            stages.append([])
        stages[-1].append((name, rest.strip()))
    return stages


def rest_of(stage: list[tuple[str, str]], name: str) -> list[str]:
    return [rest for instruction, rest in stage if instruction == name]


def base_archive() -> pathlib.Path:
    """A tar file of a minimal Debian 12, made once per machine."""
    archive = CACHE / "debian-bookworm-minbase.tar"
    if not archive.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        partial = archive.with_suffix(".partial.tar")
        run("mmdebstrap", "--variant=minbase", "--quiet", "bookworm", partial, timeout=600)
        partial.rename(archive)
    return archive


class Docker(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = pathlib.Path(tempfile.mkdtemp(prefix="passgate-docker-"))
        cls.addClassCleanup(shutil.rmtree, cls.directory, ignore_errors=True)

    def test_compose_file_is_valid_and_exposes_only_the_gateway(self):
        text = run("docker-compose", "-f", FILES / "compose.yaml", "config").stdout
        services = re.split(r"(?m)^  (?=\w+:$)", text[text.index("services:") : text.index("\nversion:")])
        app = next(service for service in services if service.startswith("app:"))
        self.assertNotIn("ports", app)
        self.assertIn("back: null", app)
        self.assertNotIn("front", app)
        self.assertRegex(text, r"(?m)^  back:\n    internal: true$")

    def test_the_configuration_passes_the_check_and_keeps_its_state_in_the_volume(self):
        done = subprocess.run(
            [binary(), "check", "-c", FILES / "gateway.toml"], capture_output=True, text=True, timeout=60
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("sqlite:/var/lib/passgate/", (FILES / "gateway.toml").read_text())
        self.assertIn("/var/lib/passgate", rest_of(instructions()[1], "VOLUME"))

    def test_files_of_the_build_are_not_ignored(self):
        ignored = (REPOSITORY / ".dockerignore").read_text().split()
        for needed in ("Cargo.toml", "Cargo.lock", "src", "benches", "gateway.example.toml"):
            self.assertTrue((REPOSITORY / needed).exists())
            self.assertNotIn(f"/{needed}", ignored)

    def test_built_program_runs_as_its_user_in_a_read_only_tree(self):
        build, image = instructions()
        self.assertEqual(rest_of(build, "RUN"), ["cargo build --locked --release"])
        if "PASSGATE" not in os.environ or binary().endswith("/release/passgate"):
            run("cargo", "build", "--locked", "--release", cwd=REPOSITORY, timeout=1800)

        tree = self.tree()
        for step in rest_of(image, "RUN"):
            self.inside(tree, "sh", "-c", step)
        [copied] = rest_of(image, "COPY")
        self.assertEqual(copied, "--from=build /src/target/release/passgate /usr/local/bin/passgate")
        shutil.copy2(binary(), tree / "usr/local/bin/passgate")

        # The builtin upstream replaces the app of the compose file. The ports are free ones on loopback.
        public, admin = free_port(), free_port()
        toml = (FILES / "gateway.toml").read_text()
        for old, new in {
            "0.0.0.0:8080": f"127.0.0.1:{public}",
            "http://localhost:8080": f"http://localhost:{public}",
            "127.0.0.1:8081": f"127.0.0.1:{admin}",
            'servers = ["http://app:80"]': 'builtin = "whoami"',
        }.items():
            self.assertIn(old, toml)
            toml = toml.replace(old, new)
        (tree / "etc/passgate/gateway.toml").write_text(toml)
        (tree / "etc/passgate/gateway.toml").chmod(0o644)

        [user] = rest_of(image, "USER")
        [entry] = rest_of(image, "ENTRYPOINT")
        [arguments] = rest_of(image, "CMD")
        # A separate mount namespace in which the tree is read-only, except for the volume.
        script = (
            'mount --bind "$0" "$0" && mount --bind "$0/var/lib/passgate" "$0/var/lib/passgate" && '
            'mount -o remount,bind,ro "$0" && exec chroot --userspec="$1" "$0" "${@:2}"'
        )
        log = (self.directory / "log").open("w+b")
        child = subprocess.Popen(
            ["unshare", "--mount", "bash", "-c", script, str(tree), user, *json.loads(entry), *json.loads(arguments)],
            stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )  # fmt: skip
        self.addCleanup(child.kill)

        def said() -> str:
            log.seek(0)
            return log.read().decode()

        def ready() -> bool:
            self.assertIsNone(child.poll(), said())
            try:
                return request(admin, "GET", "/ready").status == 200
            except OSError:
                return False

        wait_for("the program to be ready", ready)
        self.assertRegex(said(), rf"http://localhost:{public}/auth/register\?setup=")
        self.assertEqual(request(public, "GET", "/").status, 401)
        status = pathlib.Path(f"/proc/{child.pid}/status").read_text()
        self.assertRegex(status, r"Uid:\t10001\t10001\t10001\t10001")
        state = tree / "var/lib/passgate/passgate.db"
        self.assertEqual((state.stat().st_uid, oct(state.stat().st_mode & 0o777)), (10001, "0o600"))

        # The health check, unchanged except for the port.
        compose = (FILES / "compose.yaml").read_text()
        [check] = re.findall(r"^      test: (\[.*\])$", compose, re.MULTILINE)
        check = [word.replace("/8081", f"/{admin}") for word in json.loads(check)]
        self.assertEqual(check[0], "CMD")
        run("chroot", f"--userspec={user}", tree, *check[1:])

        child.send_signal(signal.SIGTERM)
        self.assertEqual(child.wait(PATIENCE), 0, said())

    def tree(self) -> pathlib.Path:
        """A Debian 12 of essential packages and apt."""
        archive = base_archive()
        tree = self.directory / "tree"
        tree.mkdir()
        run("tar", "--extract", "--file", archive, "--directory", tree, "--exclude=./dev/*")
        shutil.copy2("/etc/resolv.conf", tree / "etc/resolv.conf")
        return tree

    def inside(self, tree: pathlib.Path, *command: str):
        script = 'mount --bind /dev "$0/dev" && exec chroot "$0" "$@"'
        run(
            "unshare", "--mount", "bash", "-c", script, tree, *command,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"}, timeout=600,
        )  # fmt: skip
