"""`/health` of a gateway with a stopped worker: ptrace stops one thread, as a debugger does, and continues it."""

import ctypes
import os
import pathlib

from harness import Gateway, PeerTest, base, request, wait_for

PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH = 0x4206, 0x4207, 17
WALL = 0x40000000  # waitpid(2): threads too


class Health(PeerTest):
    @classmethod
    def prepare(cls):
        cls.gateway = cls.start(
            Gateway(
                cls.directory,
                base(cls.directory, cls.signer, "workers = 2")
                + """
                [upstreams.app]
                builtin = "whoami"
                [[routes]]
                path = "/*"
                auth = "none"
                upstream = "app"
                """,
            )
        )

    def ptrace(self, wanted: int, thread: int):
        libc = ctypes.CDLL("libc.so.6", use_errno=True)
        libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        libc.ptrace.restype = ctypes.c_long
        self.assertEqual(libc.ptrace(wanted, thread, None, None), 0, os.strerror(ctypes.get_errno()))

    def health(self):
        return request(self.gateway.admin_port, "GET", "/health")

    def test_stopped_worker_is_unhealthy_until_it_continues(self):
        self.assertEqual(self.health().status, 200)
        tasks = pathlib.Path(f"/proc/{self.gateway.pid}/task")
        [worker] = [int(task.name) for task in tasks.iterdir() if (task / "comm").read_text().strip() == "worker-1"]
        self.ptrace(PTRACE_SEIZE, worker)
        self.ptrace(PTRACE_INTERRUPT, worker)
        os.waitpid(worker, WALL)
        try:
            answer = wait_for("503", lambda: (answer := self.health()).status == 503 and answer, 20)
            self.assertEqual(answer.body, b"not healthy\nworker 1 has not responded for 5 seconds\n")
        finally:
            self.ptrace(PTRACE_DETACH, worker)
        wait_for("200 again", lambda: self.health().status == 200, 20)
