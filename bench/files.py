#!/usr/bin/env python3
"""Files into a session and out of it, beside the local limits: `cp` and `tar | tar` on the same
disk, and rsync or scp to this host where there is one.

    bench/files.py [--megabytes 1024] [--files 50000]
"""

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from harness import RCLAUDE, Server, resident, row, serve_model


def took(command, **more):
    """Seconds that a command takes. What is written must be on its way to the disk before and
    after, or one would pay for the other."""
    os.sync()
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **more)
    return time.perf_counter() - started


def rate(seconds, megabytes, files=0):
    if files:
        return f"{seconds:.2f} s, {files / seconds:,.0f} files/s"
    return f"{seconds:.2f} s, {megabytes / seconds:,.0f} MB/s"


def peers(source, target, tree):
    """What the same takes without a session."""
    found = {"cp -r": ["cp", "-r", source, target]}
    if tree:
        found["tar | tar"] = ["sh", "-c", f"mkdir {target} && tar -C {source} -c . | tar -C {target} -x"]
    if shutil.which("rsync"):
        found["rsync"] = ["rsync", "-a", f"{source}/" if tree else source, target]
    door = ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=2", "localhost", "true"]
    if shutil.which("ssh") and subprocess.run(door, capture_output=True).returncode == 0:
        found["scp"] = ["scp", "-qr", source, f"localhost:{target}"]
    told = []
    for name, command in found.items():
        told.append(f"{name} {took(command):.2f} s")
        subprocess.run(["rm", "-rf", target], check=True)
    return ", ".join(told)


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--megabytes", type=int, default=1024)
    options.add_argument("--files", type=int, default=50_000)
    options = options.parse_args()
    server = Server(serve_model())
    scratch = Path(tempfile.mkdtemp(prefix="rclaude-bench-"))
    try:
        measure(server, scratch, options)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        server.end()


def measure(server, scratch, options):
    session = server.json("POST", "/v1/sessions", {"name": "files"})["id"]
    server.exec(session, ["true"])
    environment = dict(os.environ, RCLAUDE_DATA_DIR=str(server.dir / "data"), NO_COLOR="1")

    def cp(*arguments):
        return took([RCLAUDE, "cp", *map(str, arguments)], env=environment)

    large = scratch / "large"
    with open(large, "wb") as file:
        for _ in range(options.megabytes):
            file.write(os.urandom(1 << 20))
    peer = peers(str(large), str(scratch / "other"), tree=False)
    row(f"upload {options.megabytes} MB", rate(cp(large, f"{session}:large"), options.megabytes), peer=peer)
    row(f"download {options.megabytes} MB", rate(cp(f"{session}:large", scratch / "back"), options.megabytes), peer=peer)
    os.unlink(scratch / "back")

    small = scratch / "small"
    for n in range(options.files):
        directory = small / f"{n % 200:03d}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{n}.txt").write_bytes(b"x" * (n % 4096))
    peer = peers(str(small), str(scratch / "other"), tree=True)
    row(f"upload {options.files} files", rate(cp("-r", small, f"{session}:small"), 0, options.files), peer=peer)
    row(f"download {options.files} files", rate(cp("-r", f"{session}:small", scratch / "back"), 0, options.files), peer=peer)
    subprocess.run(["diff", "-rq", small, scratch / "back"], check=True)
    row("server's memory after it all", f"{resident(server.process.pid) / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
