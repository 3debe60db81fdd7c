#!/usr/bin/env python3
"""Attackers that leave connections in every unfinished state, and the latency of an honest client meanwhile: figures, and a check.

    tests/peers/figures/connection_attacks.py                  # of the release build, about three minutes
    PASSGATE=target/debug/passgate tests/peers/figures/connection_attacks.py
    tests/peers/figures/connection_attacks.py "an answer unread"      # some of the kinds

There is one gateway in the clear, one with TLS, and one app. For each kind of attack, 200 connections are opened at once and left in
the state of the kind; the configured deadlines are short. Five seconds after the deadline of a kind, all of its connections must be
closed; otherwise the exit status is 1. Meanwhile an honest client requests a page at a fixed rate over one kept-alive connection. Its
latencies with and without the attack are printed and do not change the exit status. Everything runs on one machine, so the attackers
have the lowest priority.

Listens on loopback only.
"""

import asyncio
import multiprocessing
import os
import pathlib
import socket
import ssl
import struct
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from harness import Authority, Gateway, Signer, base, binary, free_port, wait_for  # noqa: E402

ATTACKERS = 200
GRACE = 5.0  # seconds after its deadline at which no connection may be open
RATE = 100  # honest requests a second
HEADER, IDLE = 2.0, 2.0  # seconds
FAREWELL = 2.0
STARTING = 5.0  # until the answers of all connections have begun; they share one app, often on a busy machine
PERIOD = 20.0  # over which a rate is measured
BASELINE = 5.0

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def settings(window: int) -> bytes:
    return frame(4, 0, 0, struct.pack(">HI", 4, window))


def headers(path: str, ends: bool = True, method: str = "GET") -> bytes:
    pairs = [(":method", method), (":scheme", "http"), (":authority", "gateway.test"), (":path", path)]
    block = b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode() for name, value in pairs
    )
    return frame(1, 5 if ends else 4, 1, block)


class Attacker:
    """One connection. `ended` is set when the gateway has closed it, or has ended the attacked stream."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.ended = asyncio.Event()

    def send(self, data: bytes) -> bool:
        if self.writer.is_closing():
            return False
        self.writer.write(data)
        return True

    async def until_closed(self):
        try:
            while await self.reader.read(65536):
                pass
        except OSError:
            pass
        self.ended.set()

    async def until_reset(self):
        """HTTP/2: answers PING and SETTINGS, until stream 1 or the connection ends."""
        try:
            while True:
                head = await self.reader.readexactly(9)
                length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
                payload = await self.reader.readexactly(length)
                if kind == 6 and not flags & 1:
                    self.send(frame(6, 1, 0, payload))
                elif kind == 4 and not flags & 1:
                    self.send(frame(4, 1, 0))
                elif int.from_bytes(head[5:], "big") == 1 and (kind == 3 or (kind in (0, 1) and flags & 1)):
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass
        self.ended.set()

    async def repeat(self, data: bytes, pause: float):
        while not self.ended.is_set() and self.send(data):
            await asyncio.sleep(pause)


async def sending(attacker, data):
    attacker.send(data)
    await attacker.until_closed()


async def trickling(attacker, first, piece, pause):
    attacker.send(first)
    asyncio.ensure_future(attacker.repeat(piece, pause))
    await attacker.until_closed()


async def by_stream(attacker, data):
    attacker.send(PREFACE + data)
    await attacker.until_reset()


async def by_stream_trickling(attacker, data, piece, pause):
    attacker.send(PREFACE + data)
    asyncio.ensure_future(attacker.repeat(piece, pause))
    await attacker.until_reset()


async def unread(attacker, path):
    """Reads nothing until all connections must be closed, and then the rest. Data that is read restarts the deadline of the gateway,
    and the answer has no end: a connection that is open when the reading begins stays open."""
    attacker.writer.transport.pause_reading()
    attacker.send(f"GET {path} HTTP/1.1\r\nHost: gateway.test\r\n\r\n".encode())
    await asyncio.sleep(STARTING + IDLE + GRACE)
    attacker.writer.transport.resume_reading()
    await attacker.until_closed()


UPLOAD = b"POST /mute HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 100000\r\n\r\n"
WINDOW = frame(8, 0, 1, struct.pack(">I", 1))

# name, listener, deadline in seconds, attack
KINDS = [
    ("an empty line and silence", "clear", HEADER, lambda a: sending(a, b"\r\n")),
    ("half a head", "clear", HEADER + 2, lambda a: sending(a, b"GET / HTTP/1.1\r\nHost: ga")),
    ("a head byte by byte", "clear", HEADER + 2, lambda a: trickling(a, b"GET / HTTP/1.1\r\nX: ", b"x", 0.2)),
    ("silence", "clear", IDLE, lambda a: sending(a, b"")),
    ("kept alive", "clear", IDLE + FAREWELL, lambda a: sending(a, b"GET /short HTTP/1.1\r\nHost: gateway.test\r\n\r\n")),
    ("an answer unread", "clear", STARTING + IDLE + GRACE, lambda a: unread(a, "/endless")),
    ("an upload that stalls", "clear", IDLE + 2, lambda a: sending(a, UPLOAD)),
    ("an upload of 10 bytes a second", "clear", PERIOD + 4, lambda a: trickling(a, UPLOAD, b"x", 0.1)),
    ("TLS: half a ClientHello", "tls", HEADER, lambda a: sending(a, bytes.fromhex("16030102000100"))),
    ("TLS: silence", "tls", HEADER, lambda a: sending(a, b"")),
    ("TLS: ALPN h2 and silence", "h2", HEADER, lambda a: sending(a, b"")),
    ("TLS: half a preface", "h2", HEADER, lambda a: sending(a, PREFACE[:12])),
    ("TLS: HTTP in the clear", "tls", HEADER, lambda a: trickling(a, b"GET / HTTP/1.1\r\n\r\n", b"x", 0.2)),
    ("h2: half a preface", "clear", HEADER, lambda a: sending(a, PREFACE[:12])),
    ("h2: no SETTINGS", "clear", HEADER, lambda a: trickling(a, PREFACE, frame(6, 0, 0, b"\0" * 8), 0.2)),
    ("h2: HEADERS without end", "clear", HEADER, lambda a: sending(a, PREFACE + settings(65535) + frame(1, 0, 1, b"\x82"))),
    ("h2: idle with PINGs", "clear", IDLE + FAREWELL,
     lambda a: trickling(a, PREFACE + settings(65535) + headers("/short"), frame(6, 0, 0, b"\0" * 8), 0.2)),
    ("h2: a page of our own, window 0", "clear", IDLE, lambda a: by_stream(a, settings(0) + headers("/auth/login"))),
    ("h2: an app's answer, window 0", "clear", IDLE, lambda a: by_stream(a, settings(0) + headers("/endless"))),
    ("h2: 10 bytes of an answer a second", "clear", PERIOD,
     lambda a: by_stream_trickling(a, settings(0) + headers("/endless"), WINDOW, 0.1)),
    ("h2: an upload that stalls", "clear", IDLE, lambda a: by_stream(a, settings(65535) + headers("/mute", False, "POST"))),
    ("h2: a flood of PINGs", "clear", HEADER,
     lambda a: trickling(a, PREFACE + settings(65535), frame(6, 0, 0, b"\0" * 8) * 500, 0.05)),
    ("redirect: half a head", "redirect", HEADER + 2, lambda a: sending(a, b"GET / HTTP/1.1\r\nHost: ga")),
]  # fmt: skip


async def attack(kind, ports, authority) -> tuple[int, float]:
    """The number of connections open `GRACE` after the deadline, and the seconds until the last one was closed."""
    _, listener, deadline, act = kind
    context, port = None, ports[listener]
    if listener == "h2":
        context = ssl.create_default_context(cafile=authority)
        context.set_alpn_protocols(["h2"])
    name = "gateway.test" if context else None

    async def connect():
        # A small receive buffer, so that the gateway cannot send much to a client that does not read.
        opened = socket.socket()
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        opened.setblocking(False)
        await asyncio.get_running_loop().sock_connect(opened, ("127.0.0.1", port))
        return await asyncio.open_connection(sock=opened, ssl=context, server_hostname=name, limit=4096)

    opened = await asyncio.gather(*(connect() for _ in range(ATTACKERS)))
    attackers = [Attacker(*streams) for streams in opened]
    began, last = time.monotonic(), 0.0
    tasks = [asyncio.ensure_future(act(attacker)) for attacker in attackers]
    while time.monotonic() < began + deadline + GRACE:
        await asyncio.sleep(0.05)
        if all(attacker.ended.is_set() for attacker in attackers):
            break
        last = time.monotonic() - began
    left = sum(not attacker.ended.is_set() for attacker in attackers)
    for task in tasks:
        task.cancel()
    for attacker in attackers:
        attacker.writer.transport.abort()
    return left, last


def attack_process(kind, ports, authority, result):
    os.nice(19)
    result.send(asyncio.run(attack(kind, ports, authority)))


async def app(port: int):
    async def answer(reader, writer):
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                path = head.split(b" ")[1]
                if path == b"/endless":
                    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                    while True:
                        writer.write(b"2000\r\n" + b"x" * 0x2000 + b"\r\n")
                        await writer.drain()
                elif path == b"/mute":
                    while await reader.read(65536):
                        pass
                    return
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


async def ask(port: int, seconds_or_event) -> list[float]:
    """The latency of each honest request, in milliseconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    latencies, due = [], time.monotonic()
    over = (lambda: time.monotonic() > end) if isinstance(seconds_or_event, float) else seconds_or_event
    end = due + (seconds_or_event if isinstance(seconds_or_event, float) else 0)
    while not over():
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        began = time.monotonic()
        writer.write(b"GET /short HTTP/1.1\r\nHost: gateway.test\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(2)
        if not head.startswith(b"HTTP/1.1 200 "):
            raise SystemExit(f"error: an honest request was answered\n{head.decode()}")
        latencies.append((time.monotonic() - began) * 1000)
        due += 1 / RATE
    writer.close()
    return latencies


def figures(latencies: list[float]) -> str:
    ordered = sorted(latencies)
    at = lambda share: ordered[min(len(ordered) - 1, int(len(ordered) * share))]  # noqa: E731
    return f"{len(ordered):>6} {at(0.5):>8.2f} {at(0.99):>8.2f} {ordered[-1]:>8.2f}"


def start(directory: pathlib.Path, app_port: int) -> tuple[list[Gateway], dict, pathlib.Path]:
    authority = Authority(directory)
    chain, key = authority.issue("gateway.test")
    routes = f"""
[password]
[upstreams.app]
servers = ["http://127.0.0.1:{app_port}"]
[[routes]]
path = "/*"
auth = "none"
upstream = "app"
"""
    limits = f'workers = 1\nheader_timeout = "{HEADER:.0f}s"\nidle_timeout = "{IDLE:.0f}s"\n'
    clear = base(directory, Signer(directory), limits).replace("http://gateway.test", "https://gateway.test")
    table = f'redirect_http = "127.0.0.1:0"\n[server.tls]\ncertificate = "{chain}"\nprivate_key = "{key}"\n'
    tls = base(directory, Signer(directory), limits + table).replace("http://gateway.test", "https://gateway.test")
    gateways = [
        Gateway(directory, clear + routes, "clear", until_ready=False),
        Gateway(directory, tls + routes, "tls", until_ready=False),
    ]
    redirect = int(gateways[1].line(gateways[1].stderr, r"redirecting http://127\.0\.0\.1:(\d+)")[1])
    clear_port, tls_port = gateways[0].port, gateways[1].port
    return gateways, {"clear": clear_port, "tls": tls_port, "h2": tls_port, "redirect": redirect}, authority.certificate


def main():
    kinds = [kind for kind in KINDS if not sys.argv[1:] or kind[0] in sys.argv[1:]]
    if not kinds:
        raise SystemExit(f"error: no kind has this name; hint: {', '.join(kind[0] for kind in KINDS)}")
    forking = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as name:
        app_port = free_port()
        serving = forking.Process(target=lambda: asyncio.run(app(app_port)), daemon=True)
        serving.start()
        gateways, ports, authority = start(pathlib.Path(name), app_port)
        print(f"{binary()}: {ATTACKERS} attackers of each kind; honest requests: milliseconds\n")
        print(f"{'':<38} {'open':>5} {'last':>6} {'n':>6} {'p50':>8} {'p99':>8} {'max':>8}")
        failed = False
        honest = asyncio.run(ask(ports["clear"], BASELINE))
        print(f"{'(without an attack)':<38} {'':>5} {'':>6} {figures(honest)}")
        for kind in kinds:
            result, end = forking.Pipe(duplex=False)
            attacking = forking.Process(target=attack_process, args=(kind, ports, authority, end), daemon=True)
            attacking.start()
            honest = asyncio.run(ask(ports["clear"], lambda: result.poll() or not attacking.is_alive()))
            left, last = result.recv()
            attacking.join()
            failed |= left > 0
            print(f"{kind[0]:<38} {left:>5} {last:>6.1f} {figures(honest)}", flush=True)
        for gateway in gateways:
            gateway.stop()
        serving.terminate()
    if failed:
        raise SystemExit(f"error: connections were open {GRACE:.0f} s after their deadline")


if __name__ == "__main__":
    main()
