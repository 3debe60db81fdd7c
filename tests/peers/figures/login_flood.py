#!/usr/bin/env python3
"""The effect of a flood of sign-ins on the latency of signed-in clients: figures, not a test.

    tests/peers/figures/login_flood.py                         # of the release build, about a minute
    PASSGATE=target/debug/passgate tests/peers/figures/login_flood.py

There is one gateway. A client with a session cookie requests a page at a fixed rate over kept-alive connections, in alternating
rounds: one without other load, one during a flood of `POST /auth/login` with wrong passwords. Each attempt has its own address
(X-Forwarded-For by a trusted proxy) and its own account, so that no throttle stops it and the limit on password hashing does.
Latencies are those of each request in h2load's log. The flood comes from the same machine: its rate is limited, far above the rate of
hashing, and it has the lowest priority.

Needs h2load (Debian's nghttp2-client). Listens on loopback only.
"""

import collections
import http.client
import http.cookies
import json
import multiprocessing
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from harness import Gateway, binary, free_port, request, run  # noqa: E402

ROUNDS = 4
SECONDS = 4
RATE = 500  # authenticated requests a second, all connections together
CONNECTIONS = 10
ATTACKERS = 200  # connections that sign in
ATTEMPTS = 400  # a second, all attackers together, where they are answered that fast
PASSWORD = "a password of some length"


def flood(port: int, over: threading.Event, statuses: collections.Counter):
    """Signs in with wrong passwords until `over` is set; counts the answers by status."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    due = time.monotonic()
    while not over.is_set():
        due = max(due + ATTACKERS / ATTEMPTS, time.monotonic() - 1)
        over.wait(max(0.0, due - time.monotonic()))
        address = ".".join(str(random.randrange(1, 255)) for _ in range(4))
        # The account does not exist; the gateway does the same work as for one that exists.
        body = json.dumps({"email": f"{random.randrange(10**9)}@example.com", "password": "wrong password"})
        headers = {"Content-Type": "application/json", "X-Forwarded-For": address}
        try:
            connection.request("POST", "/auth/login", body, headers)
            answer = connection.getresponse()
            answer.read()
            statuses[answer.status] += 1
        except (OSError, http.client.HTTPException):
            statuses["no answer"] += 1
            connection.close()


def measure(port: int, cookie: str, directory: pathlib.Path) -> list[float]:
    """The latency of each request of a round, in milliseconds."""
    log = directory / "latencies"
    log.unlink(missing_ok=True)
    done = run(
        "h2load", "--h1", "-t", 1, "-c", CONNECTIONS, "--rps", RATE // CONNECTIONS, "-D", SECONDS,
        f"--log-file={log}", "-H", f"Cookie: {cookie}", f"http://127.0.0.1:{port}/page",
    )  # fmt: skip
    rows = [line.split("\t") for line in log.read_text().splitlines()]
    refused = [row for row in rows if row[1] != "200"]
    if refused or not rows:
        raise SystemExit(
            f"error: {len(refused)} of {len(rows)} authenticated requests were not answered 200\n{done.stdout}"
        )
    return [int(row[2]) / 1000 for row in rows]


def attack(port: int, over, answers):
    """All attackers, in a process of its own: elsewhere they would not take the cores from those whom they attack."""
    os.nice(19)
    stop, statuses, began = threading.Event(), collections.Counter(), time.monotonic()
    attackers = [threading.Thread(target=flood, args=(port, stop, statuses), daemon=True) for _ in range(ATTACKERS)]
    for attacker in attackers:
        attacker.start()
    over.wait()
    rate = sum(statuses.values()) / (time.monotonic() - began)
    stop.set()
    for attacker in attackers:
        attacker.join()
    answers.send((rate, statuses))


def during_flood(port: int, work) -> tuple[list[float], float, collections.Counter]:
    """What `work` returns while attackers sign in; their answers a second, and by status."""
    forking = multiprocessing.get_context("fork")
    over, (result_end, attack_end) = forking.Event(), forking.Pipe(duplex=False)
    process = forking.Process(target=attack, args=(port, over, attack_end), daemon=True)
    process.start()
    time.sleep(1)  # until the queue of passwords is as long as it gets
    try:
        result = work()
    finally:
        over.set()
    rate, statuses = result_end.recv()
    process.join()
    return result, rate, statuses


def figures(latencies: list[float]) -> str:
    ordered = sorted(latencies)
    at = lambda share: ordered[min(len(ordered) - 1, int(len(ordered) * share))]  # noqa: E731
    return f"{len(ordered):>6} {at(0.5):>9.2f} {at(0.99):>9.2f} {at(0.999):>9.2f} {ordered[-1]:>9.2f}"


def main():
    with tempfile.TemporaryDirectory(prefix="passgate-figures-") as name:
        directory = pathlib.Path(name)
        port = free_port()
        toml = f"""
        [server]
        listen = "127.0.0.1:{port}"
        public_url = "http://127.0.0.1:{port}"
        trusted_proxies = ["127.0.0.0/8"]
        [admin]
        listen = "127.0.0.1:0"
        [state]
        url = "sqlite:{directory}/passgate.db"
        [password]
        [upstreams.whoami]
        builtin = "whoami"
        [[routes]]
        path = "/*"
        upstream = "whoami"
        """
        config = directory / "passgate.toml"
        config.write_text(toml)
        add = [binary(), "user", "add", "alice@example.com", "-c", str(config)]
        subprocess.run(add, input=PASSWORD + "\n", text=True, check=True, capture_output=True)
        gateway = Gateway(directory, toml)
        try:
            form = urllib.parse.urlencode({"email": "alice@example.com", "password": PASSWORD})
            headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": gateway.url}
            answer = request(port, "POST", "/auth/login", headers, form)
            if answer.status != 303:
                raise SystemExit(f"error: signing in is {answer.status}\n{gateway.text()}")
            [cookie] = http.cookies.SimpleCookie(answer.fields["set-cookie"]).values()
            cookie = f"{cookie.key}={cookie.value}"

            alone, flooded, rates = [], [], []
            totals = collections.Counter()
            print(f"{'':22}{'count':>6} {'p50 ms':>9} {'p99 ms':>9} {'p99.9 ms':>9} {'max ms':>9}   attempts a second")
            for turn in range(ROUNDS):
                quiet = measure(port, cookie, directory)
                alone += quiet
                print(f"round {turn + 1}, alone        {figures(quiet)}")

                busy, rate, statuses = during_flood(port, lambda: measure(port, cookie, directory))
                flooded += busy
                rates.append(rate)
                totals.update(statuses)
                print(f"round {turn + 1}, login flood  {figures(busy)}   {rate:.0f}")
            print(f"all, alone            {figures(alone)}")
            print(f"all, login flood      {figures(flooded)}   {statistics.mean(rates):.0f}")
            answers = ", ".join(f"{count} × {status}" for status, count in sorted(totals.items(), key=str))
            print(f"\nthe flood was answered: {answers}")
            print(
                f"{RATE} requests a second over {CONNECTIONS} connections by session cookie; {ATTACKERS} connections that sign in"
            )
        finally:
            gateway.stop()


if __name__ == "__main__":
    main()
