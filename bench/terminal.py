#!/usr/bin/env python3
"""A terminal through the whole platform, beside a bare pty on this machine: how long a keystroke
takes to come back, in quiet and while another viewer's flood keeps the daemon busy, and how fast a
large file is shown.

Needs no packages: the WebSocket's client side (RFC 6455) is a few lines below. The bare pty's echo
is the limit: the same program, the same kernel, nothing between."""

import base64
import json
import os
import pty
import select
import socket
import struct
import sys
import time
import tty

from harness import Server, row

KEYS = int(os.environ.get("BENCH_KEYS", 2000))
FILE_MIB = int(os.environ.get("BENCH_FILE_MIB", 64))


class Terminal:
    """An attached terminal."""

    def __init__(self, server, session, terminal, query=""):
        self.socket = socket.create_connection(("127.0.0.1", server.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall((
            f"GET /v1/sessions/{session}/terminals/{terminal}/attach?{query} HTTP/1.1\r\n"
            f"host: 127.0.0.1:{server.port}\r\nauthorization: Bearer {server.token}\r\n"
            "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
            f"sec-websocket-key: {key}\r\n\r\n").encode())
        self.buffer = bytearray()
        while b"\r\n\r\n" not in self.buffer:
            self.fill()
        head, _, rest = bytes(self.buffer).partition(b"\r\n\r\n")
        if b" 101 " not in head.split(b"\r\n")[0]:
            sys.exit(f"not attached: {head!r} {rest!r}")
        self.buffer = bytearray(rest)
        self.ended = False

    def fill(self):
        got = self.socket.recv(1 << 20)
        if not got:
            sys.exit("the server hung up")
        self.buffer += got

    def frame(self):
        """The next frame: its kind, and its bytes."""
        while True:
            if len(self.buffer) >= 2:
                length, at = self.buffer[1] & 0x7F, 2
                if length == 126 and len(self.buffer) >= 4:
                    length, at = struct.unpack_from(">H", self.buffer, 2)[0], 4
                elif length == 127 and len(self.buffer) >= 10:
                    length, at = struct.unpack_from(">Q", self.buffer, 2)[0], 10
                elif length >= 126:
                    length = 1 << 62
                if len(self.buffer) >= at + length:
                    kind, data = self.buffer[0] & 0x0F, bytes(self.buffer[at:at + length])
                    del self.buffer[:at + length]
                    return kind, data
            self.fill()

    def send(self, kind, data):
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
        assert len(data) < 126
        self.socket.sendall(bytes([0x80 | kind, 0x80 | len(data)]) + mask + masked)

    def printed(self):
        """What is printed next; empty for what is no print."""
        kind, data = self.frame()
        if kind == 9:
            self.send(10, data)
        if kind == 1 and json.loads(data)["type"] == "exited":
            self.ended = True
        if kind == 8:
            self.ended = True
        return data if kind == 2 else b""

    def keys(self, data):
        self.send(2, data)

    def until(self, wanted):
        tail = b""
        while wanted not in tail:
            tail = tail[-len(wanted):] + self.printed()


def quantiles(samples):
    samples = sorted(samples)
    at = lambda q: samples[min(len(samples) - 1, int(len(samples) * q))] * 1e3
    return f"{at(0.5):.3f} / {at(0.99):.3f} ms"


def echoes(write, read, count):
    """Seconds from a key to its echo, one at a time as somebody types."""
    samples = []
    for number in range(count):
        key = bytes([ord("a") + number % 26])
        begun = time.perf_counter()
        write(key)
        while key not in read():
            pass
        samples.append(time.perf_counter() - begun)
        time.sleep(0.001)
    return samples


def bare_pty(command):
    pid, fd = pty.fork()
    if pid == 0:
        os.execvp(command[0], command)
    tty.setraw(fd)
    return pid, fd


def main():
    server = Server("http://127.0.0.1:9")
    try:
        session = server.json("POST", "/v1/sessions", {})["id"]
        path = f"/v1/sessions/{session}/terminals"
        size = {"rows": 40, "cols": 120}
        # The line's own echo, as a shell's prompt has it; what is typed is not interpreted.
        echo = ["sh", "-c", "stty raw echo; echo ready; exec sleep 1000000"]
        opened = server.json("POST", path, {"command": echo, "size": size})
        typist = Terminal(server, session, opened["id"], "offset=0")
        typist.until(b"ready")
        ours = echoes(typist.keys, typist.printed, KEYS)

        pid, fd = bare_pty(["sh", "-c", "stty raw echo; exec sleep 1000000"])
        time.sleep(0.2)
        limit = echoes(lambda key: os.write(fd, key), lambda: os.read(fd, 65536), KEYS)
        os.kill(pid, 9)
        os.close(fd)
        row("keystroke echo, quiet, p50 / p99", quantiles(ours), "0.5 / 3 ms",
            f"bare pty {quantiles(limit)}")

        flood = server.json("POST", path, {"command": ["sh", "-c", "exec yes 'a line of a flood'"],
                                           "size": size})
        watcher_pid = os.fork()
        if watcher_pid == 0:
            watcher = Terminal(server, session, flood["id"])
            while True:
                watcher.printed()
        time.sleep(1)
        ours = echoes(typist.keys, typist.printed, KEYS // 4)
        row("the same beside a flood in another terminal", quantiles(ours))
        server.json("DELETE", f"{path}/{flood['id']}")
        os.kill(watcher_pid, 9)
        os.waitpid(watcher_pid, 0)

        total = FILE_MIB << 20
        make = f"yes 'A line of some length, as files have them.' | head -c {total} > /tmp/file"
        wait = f"{make}; stty -opost -echo; echo ready; read go; cat /tmp/file; printf END"
        shown = server.json("POST", path, {"command": ["sh", "-c", wait], "size": size})
        viewer = Terminal(server, session, shown["id"], "offset=0")
        viewer.until(b"ready\n")
        begun, got = time.perf_counter(), 0
        viewer.keys(b"\n")
        while not viewer.ended:
            got += len(viewer.printed())
        took = time.perf_counter() - begun

        pid, fd = pty.fork()
        if pid == 0:
            os.execvp("sh", ["sh", "-c", wait.replace("/tmp/file", f"{server.dir}/file")])
        tail = b""
        while b"ready" not in tail:
            tail = os.read(fd, 65536)
        begun_bare, bare = time.perf_counter(), 0
        os.write(fd, b"\n")
        while True:
            try:
                bare += len(os.read(fd, 65536))
            except OSError:
                break
        took_bare = time.perf_counter() - begun_bare
        os.waitpid(pid, 0)
        missed = "" if got >= total else f", {(total - got) >> 20} MiB of it as screens"
        row(f"cat of {FILE_MIB} MiB", f"{total / took / 1e6:.0f} MB/s{missed}", "",
            f"bare pty {bare / took_bare / 1e6:.0f} MB/s")
    finally:
        server.end()


if __name__ == "__main__":
    main()
