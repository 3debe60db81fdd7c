"""Tests of `docs/systemd.md` and the unit under a real systemd: every file and every command of the page, in the order of the
page, in a Debian 12 (systemd 252) and a Debian 13 (systemd 257), as root, in containers without a network.

mmdebstrap makes the trees, once per machine, from the archive that apt is configured with. One boot per release runs everything and
records the results; the tests read them.
"""

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import tempfile
import unittest

from harness import REPOSITORY, binary, run

PAGE = REPOSITORY / "docs/systemd.md"
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "passgate-ci"
PACKAGES = ("systemd", "systemd-sysv", "dbus", "ca-certificates", "curl", "openssl", "logrotate")
PASSWORD = "a password of some length"
BOOT_TIMEOUT = 300  # seconds for all of it; 40 are usual


def archive_of(suite: str) -> pathlib.Path:
    """A tar file of a minimal Debian with systemd, made once per machine."""
    archive = CACHE / f"debian-{suite}-systemd.tar"
    if not archive.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        wanted = ("Created-By: Packages", "Origin: Debian", "Label: Debian", "Component: main")
        mirrors = run("apt-get", "indextargets", "--format", "$(REPO_URI)", *wanted).stdout.split()
        if not mirrors:
            raise AssertionError("apt is configured with no archive of Debian")
        partial = archive.with_suffix(".partial.tar")
        run("mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}", suite, partial, mirrors[0],
            timeout=900)  # fmt: skip
        partial.rename(archive)
    return archive


def sections(page: str) -> dict[str, list[tuple[str, str]]]:
    """By title: the page's files (`path`, text) and commands (`#`, command) in their order."""
    found: dict[str, list[tuple[str, str]]] = {}
    title, named, fence, body = "", None, None, []
    for line in page.splitlines():
        if fence is None and line.startswith("## "):
            title = line[3:]
            found[title] = []
        elif fence is None and line.startswith("```"):
            fence, body = line[3:], []
        elif line == "```":
            if fence == "console":
                found[title] += [("#", command[2:]) for command in body]
            else:
                found[title].append((named, "\n".join(body) + "\n"))
            fence = named = None
        elif fence is not None:
            body.append(line)
        elif match := re.fullmatch(r"`([^`]+)`:", line):
            named = match[1]
    return found


# Lines of bash that run before and after a section of the page. `note NAME COMMAND` records the output and the exit status of a
# command, `soon NAME COMMAND` repeats it until it succeeds.
BEFORE = {
    "Configuration": """
        note kill 'type -P kill'
        note version 'systemctl --version'
        install -d -m 700 /etc/letsencrypt/live/app.example.com
        pair first
        mkdir -p /etc/systemd/system/passgate.service.d
        printf '[Unit]\\nStartLimitIntervalSec=0\\n[Service]\\nWatchdogSec=3s\\n' >/etc/systemd/system/passgate.service.d/watchdog.conf
    """,
    "Certificates": """
        pair second
    """,
}

AFTER = {
    "Start": """
        note started 'systemctl show -p ActiveState -p LoadState -p NRestarts -p ExecMainPID passgate.service'
        note served 'ask first /reports'
        note state 'stat -c "%a %F" /var/lib/passgate/passgate.db && ls /etc/passgate'
        note unknown_key 'journalctl -b -o cat --grep RefreshOnReload'
        note ready 'curl -sS -o /dev/null -w "%{http_code}" http://localhost:8081/ready'
        note rebound 'curl -sS -o /dev/null -w "%{http_code}" -H "Host: rebound.example" http://localhost:8081/health'
        note secret 'test -r /run/credentials/passgate.service/corp.secret'
    """,
    "Commands beside the service": """
        note signed_in 'sign_in first'
        note no_second_state 'ls /etc/passgate'
    """,
    "Changes": """
        cp /etc/passgate/gateway.toml good.toml
        printf '\\n[[routes]]\\npath = "/open/*"\\nauth = "none"\\nupstream = "app"\\n' >>/etc/passgate/gateway.toml
        note reloaded 'systemctl reload passgate.service'
        note new_route_at_once 'ask first /open/x'
        soon new_route 'test "$(ask first /open/x)" = 200'
        echo '[[[' >>/etc/passgate/gateway.toml
        note reloaded_broken 'systemctl reload passgate.service'
        soon refused 'journalctl -u passgate.service -o cat --grep "was not applied"'
        note refused_why 'journalctl -u passgate.service -o cat --grep "gateway.toml:"'
        soon refused_status 'systemctl status passgate.service | grep "last reload failed"'
        note still_served 'ask first /open/x'
        chmod 666 good.toml
        cp --preserve=mode good.toml /etc/passgate/gateway.toml
        systemctl reload passgate.service
        soon refused_loose 'journalctl -u passgate.service -o cat --grep "every user can write"'
        chmod 644 /etc/passgate/gateway.toml
        systemctl reload passgate.service
        soon taken_again 'test "$(ask first /open/x)" = 401'
        soon status_again '! systemctl status passgate.service | grep "last reload failed"'
        note restarts 'systemctl show -p NRestarts passgate.service'
    """,
    "Certificates": """
        soon renewed 'test "$(ask second /reports)" = 401'
        # A certificate that the service reads itself, and a copied key.
        install -m 644 certificates/second.pem /etc/passgate/fullchain.pem
        sed -i 's/^certificate = .*/certificate = "fullchain.pem"/' /etc/passgate/gateway.toml
        note half_restart 'systemctl restart passgate.service'
        install -m 644 certificates/first.pem /etc/passgate/fullchain.pem
        pair first
        soon stale 'journalctl -u passgate.service -o cat --grep "does not go with the certificate.*which expires"'
        note stale_served 'ask second /reports'
        systemctl restart passgate.service
        note both_new 'ask first /reports'
        sed -i 's/^certificate = .*/certificate = { credential = "fullchain.pem" }/' /etc/passgate/gateway.toml
        systemctl restart passgate.service
    """,
    "Logs": """
        note rotated 'ls /var/log/passgate'
        note asked_after 'ask first /rotated'
        soon in_new_file 'grep /rotated /var/log/passgate/access.log'
        note log_mode 'stat -c %a /var/log/passgate/access.log'
    """,
    "Socket activation": """
        note by_socket 'ask first /reports'
        note capabilities 'grep CapBnd /proc/$(systemctl show -P MainPID passgate.service)/status'
        systemctl stop passgate.service
        note on_demand 'ask first /reports'
        (for turn in $(seq 30); do ask first /reports; echo; done) >/probe/during_restart.out 2>&1 &
        clients=$!
        for turn in 1 2 3; do systemctl restart passgate.service; done
        wait $clients
    """,
    "Upgrade": """
        note after_upgrade 'sign_in first'
    """,
    "Watchdog": """
        soon restarted 'test "$(systemctl show -P NRestarts passgate.service)" = 1 && systemctl is-active passgate.service'
        note watchdog 'journalctl -b -o cat --grep "Watchdog timeout"'
        note after_watchdog 'ask first /reports'
    """,
    "Removal": """
        note left 'ls -d /var/lib/private/passgate /var/log/private/passgate /etc/systemd/system/passgate* /etc/passgate'
        note gone 'systemctl show -p LoadState passgate.service'
        note others 'find /etc /usr/local /var/lib /var/log -name "*passgate*"'
    """,
}

PROBE = """#!/bin/bash
# Records the result of each command: /probe/NAME.out and /probe/NAME.code.
cd /src
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_PAGER= SYSTEMD_COLORS=0
code() {
  curl -sS -m 20 --cacert "certificates/$1.pem" --resolve app.example.com:443:127.0.0.1 -o /probe/body -w '%{http_code}' "${@:2}"
}
ask() { code "$1" "https://app.example.com$2"; }
sign_in() {
  code "$1" --json '{"email": "alice@example.com", "password": "PASSWORD"}' https://app.example.com/auth/login
}
pair() {
  install -m 600 "certificates/$1.pem" /etc/letsencrypt/live/app.example.com/fullchain.pem
  install -m 600 "certificates/$1.key" /etc/letsencrypt/live/app.example.com/privkey.pem
}
export -f code ask sign_in
note() {
  journalctl --sync
  bash -c "$2" </probe/password >"/probe/$1.out" 2>&1
  echo $? >"/probe/$1.code"
}
soon() {
  for turn in $(seq 150); do
    note "$1" "$2"
    [ "$(cat "/probe/$1.code")" != 0 ] || return 0
    sleep 0.1
  done
}
STEPS
journalctl -b -o short-monotonic >/probe/journal.out
touch /probe/done
""".replace("PASSWORD", PASSWORD)

UNIT = """[Unit]
Description=Runs the page
SuccessAction=poweroff-force
FailureAction=poweroff-force

[Service]
Type=oneshot
ExecStart=/probe/run
TimeoutStartSec=280
"""


class Service:
    suite: str
    version: int

    @classmethod
    def setUpClass(cls):
        directory = pathlib.Path(tempfile.mkdtemp(prefix=f"passgate-{cls.suite}-"))
        cls.addClassCleanup(shutil.rmtree, directory, ignore_errors=True)
        tree = directory / "tree"
        tree.mkdir()
        run("tar", "--extract", "--file", archive_of(cls.suite), "--directory", tree, "--exclude=./dev/*", timeout=120)
        cls.probe = tree / "probe"
        cls.probe.mkdir()
        cls.place_sources(tree)
        cls.commands: dict[str, str] = {}
        (cls.probe / "password").write_text(f"{PASSWORD}\n")
        (cls.probe / "run").write_text(PROBE.replace("STEPS", "\n".join(cls.steps())))
        (cls.probe / "run").chmod(0o755)
        units = tree / "etc/systemd/system"
        (units / "probe.service").write_text(UNIT)
        (units / "multi-user.target.wants").mkdir(exist_ok=True)
        (units / "multi-user.target.wants/probe.service").symlink_to("../probe.service")
        cls.boot(directory, tree)

    @classmethod
    def place_sources(cls, tree: pathlib.Path):
        """The files of the checkout that the page needs, and two certificates for one name."""
        source = tree / "src"
        (source / "target/release").mkdir(parents=True)
        shutil.copy2(binary(), source / "target/release/passgate")
        shutil.copytree(REPOSITORY / "systemd", source / "systemd")
        (source / "certificates").mkdir()
        for name in ("first", "second"):
            run(
                "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "60",
                "-subj", "/CN=app.example.com", "-addext", "subjectAltName=DNS:app.example.com",
                "-keyout", source / f"certificates/{name}.key", "-out", source / f"certificates/{name}.pem",
            )  # fmt: skip

    @classmethod
    def steps(cls):
        """The lines of the probe: the commands of the page, and the checks between its sections."""
        for title, parts in sections(PAGE.read_text()).items():
            yield BEFORE.get(title, "")
            for number, (where, text) in enumerate(parts):
                if where == "#":
                    name = f"{title}-{number}".replace(" ", "-")
                    cls.commands[name] = text
                    yield f"note {name} {shlex.quote(text)}"
                elif where.endswith("reload.conf") and cls.version < 253:
                    continue  # as the page says
                else:
                    # The app of the page's example does not exist here.
                    text = text.replace('servers = ["http://127.0.0.1:3000"]', 'builtin = "whoami"')
                    yield f"mkdir -p $(dirname {where}) && printf %s {shlex.quote(text)} >{where}"
                    if where.endswith("reload.conf"):
                        yield "systemctl daemon-reload; systemctl restart passgate.service"
            yield AFTER.get(title, "")

    @classmethod
    def boot(cls, directory: pathlib.Path, tree: pathlib.Path):
        with (directory / "console").open("w+b") as console:
            machine = subprocess.Popen(
                ["systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", "--private-network",
                 f"--machine=passgate-{cls.suite}", "--directory", str(tree)],
                stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT,
            )  # fmt: skip
            try:
                machine.wait(BOOT_TIMEOUT)
            except subprocess.TimeoutExpired:
                machine.kill()
                machine.wait()
            console.seek(0)
            said = console.read().decode(errors="replace")
        if not (cls.probe / "done").exists():
            outputs = "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')}" for path in cls.probe.glob("*.out"))
            raise AssertionError(f"the machine did not come to its end\n{said[-6000:]}\n{outputs[-20000:]}")

    def out(self, name: str) -> str:
        return (self.probe / f"{name}.out").read_text(errors="replace").strip()

    def succeeded(self, name: str) -> str:
        """The output of a command that succeeded."""
        code = (self.probe / f"{name}.code").read_text().strip()
        self.assertEqual(code, "0", f"{name}\n{self.out(name)}\n{self.journal()}")
        return self.out(name)

    def journal(self) -> str:
        lines = self.out("journal").splitlines()
        return "\n".join(line for line in lines if "passgate" in line)[-8000:]

    def test_machine_has_the_systemd_version_of_the_page(self):
        self.assertRegex(self.out("version"), rf"^systemd {self.version} ")
        self.assertEqual(self.out("kill"), "", "a `kill` to be executed would hide that none is needed")

    def test_every_command_of_the_page_succeeds(self):
        self.assertGreater(len(self.commands), 30)
        for name, command in self.commands.items():
            with self.subTest(command):
                self.succeeded(name)

    def test_service_uses_credentials_and_the_state_directory(self):
        self.assertIn("ActiveState=active", self.succeeded("started"))
        self.assertIn("LoadState=loaded", self.out("started"))
        self.assertIn("NRestarts=0", self.out("started"))
        self.assertEqual(self.succeeded("served"), "401")
        state, *configuration = self.succeeded("state").splitlines()
        self.assertEqual(state, "600 regular file")
        self.assertEqual(configuration, ["corp.secret", "gateway.toml"])
        self.succeeded("secret")

    def test_key_of_a_later_systemd_is_only_a_warning(self):
        if self.version < 260:
            self.assertRegex(self.succeeded("unknown_key"), r"Unknown key.*RefreshOnReload.*ignoring")

    def test_the_admin_port_answers_to_its_own_names(self):
        self.assertEqual(self.succeeded("ready"), "200")
        self.assertEqual(self.succeeded("rebound"), "421")

    def test_the_journal_has_the_link_for_the_first_account(self):
        [name] = [name for name, command in self.commands.items() if "setup=" in command]
        self.assertIn("https://app.example.com/auth/register?setup=", self.succeeded(name))

    def test_commands_beside_the_service_change_its_state(self):
        self.assertEqual(self.succeeded("signed_in"), "200")
        self.assertEqual(self.succeeded("no_second_state").split(), ["corp.secret", "gateway.toml"])

    def test_reload_applies_a_valid_file_and_no_broken_one(self):
        self.succeeded("reloaded")
        self.succeeded("new_route")
        if self.version >= 253:
            self.assertEqual(self.succeeded("new_route_at_once"), "200", "this one waits until it is done")
        self.succeeded("refused")
        self.assertRegex(self.succeeded("refused_why"), r"/etc/passgate/gateway\.toml:\d+")
        self.succeeded("refused_status")
        self.assertEqual(self.succeeded("still_served"), "200")
        self.succeeded("refused_loose")
        self.succeeded("taken_again")
        self.succeeded("status_again")
        self.assertEqual(self.succeeded("restarts"), "NRestarts=0")

    def test_a_renewed_certificate_is_taken_by_the_hook(self):
        self.succeeded("renewed")

    def test_certificate_without_its_key_is_a_warning_with_the_expiry(self):
        self.succeeded("half_restart")
        self.assertRegex(self.succeeded("stale"), r"which expires \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ, in 59 days; a credential is")
        self.assertEqual(self.succeeded("stale_served"), "401")
        self.assertEqual(self.succeeded("both_new"), "401")
        [name] = [name for name, command in self.commands.items() if "-p warning" in command]
        warnings = self.succeeded(name)
        self.assertIn("does not go with the certificate", warnings)
        self.assertNotIn("listening on", warnings)
        self.assertNotIn("<4>", warnings)

    def test_the_log_file_is_rotated(self):
        self.assertEqual(self.succeeded("rotated").split(), ["access.log", "access.log.1"])
        self.assertEqual(self.succeeded("asked_after"), "401")
        self.succeeded("in_new_file")
        self.assertEqual(self.succeeded("log_mode"), "600")

    def test_socket_activation_needs_no_capability_and_no_downtime(self):
        self.assertEqual(self.succeeded("by_socket"), "401")
        self.assertRegex(self.succeeded("capabilities"), r"CapBnd:\s+0+$")
        self.assertEqual(self.succeeded("on_demand"), "401")
        self.assertEqual(self.out("during_restart").split(), ["401"] * 30)

    def test_the_state_outlives_an_upgrade(self):
        self.assertEqual(self.succeeded("after_upgrade"), "200")

    def test_watchdog_restarts_a_stuck_gateway(self):
        self.succeeded("restarted")
        self.succeeded("watchdog")
        self.assertEqual(self.succeeded("after_watchdog"), "401")

    def test_nothing_is_left_after_the_removal(self):
        self.assertEqual([line for line in self.out("left").splitlines() if "No such file" not in line], [])
        self.assertEqual(self.succeeded("gone"), "LoadState=not-found")
        self.assertEqual(self.succeeded("others"), "")


class Debian12(Service, unittest.TestCase):
    suite = "bookworm"
    version = 252


class Debian13(Service, unittest.TestCase):
    suite = "trixie"
    version = 257
