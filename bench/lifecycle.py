#!/usr/bin/env python3
"""Measures pauses, checkpoints, forks and recovery of a whole server from outside.

Prints rows of the same kind: what, ours (p50 / p90), budget,
peer or limit measured in the same run. `SESSIONS` says how many frozen and recovered sessions (200),
`FILES` and `MEGABYTES` the size of the workspace that is kept (30,000 files, 1,024 MB).
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import Server, available, beside, ms, pause, private, row, serve_model

SESSIONS = int(os.environ.get("SESSIONS", 200))
FILES = int(os.environ.get("FILES", 30_000))
MEGABYTES = int(os.environ.get("MEGABYTES", 1024))
FILL = """
import os
files, total = {files}, {megabytes} << 20
small = 4096
os.makedirs('/workspace/big', exist_ok=True)
for n in range(files):
    if n % 500 == 0:
        os.makedirs(f'/workspace/src/{{n // 500}}', exist_ok=True)
    with open(f'/workspace/src/{{n // 500}}/{{n}}', 'wb') as f:
        f.write(os.urandom(64) * (small // 64))
rest = max(0, total - files * small)
with open('/workspace/big/one', 'wb') as f:
    for _ in range(rest >> 20):
        f.write(os.urandom(1 << 20))
"""


def until(server, session, status, patience=120):
    """Asks until a session is there; when that was."""
    deadline = time.time() + patience
    while time.time() < deadline:
        if server.json("GET", f"/v1/sessions/{session}")["phase"] == status:
            return time.perf_counter()
        time.sleep(0.0002)
    sys.exit(f"{session} never came to {status}")


def made(server, **more):
    session = server.json("POST", "/v1/sessions", more)["id"]
    until(server, session, "running")
    return session


def bare_freezer(rounds=50):
    """A write to `cgroup.freeze` of an empty group of one sleeping process, until it is frozen."""
    roots = [Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")]
    root = next((r for r in roots if (r / "cgroup.procs").exists()), None)
    if root is None or os.geteuid() != 0:
        return "no freezer to write to"
    group = root / f"rclaude-bench-{os.getpid()}"
    group.mkdir()
    child = subprocess.Popen(["sleep", "60"])
    try:
        (group / "cgroup.procs").write_text(str(child.pid))
        samples = []
        for _ in range(rounds):
            began = time.perf_counter()
            (group / "cgroup.freeze").write_text("1")
            while "frozen 1" not in (group / "cgroup.events").read_text():
                pass
            samples.append(time.perf_counter() - began)
            (group / "cgroup.freeze").write_text("0")
            time.sleep(0.005)
        samples.sort()
        return samples[len(samples) // 2] * 1e3
    finally:
        child.kill()
        child.wait()
        time.sleep(0.05)
        group.rmdir()


def pauses(server):
    session = made(server)
    frozen, thawed, hibernated, woken = [], [], [], []
    for _ in range(40):
        pause()
        began = time.perf_counter()
        server.json("POST", f"/v1/sessions/{session}/pause")
        frozen.append(until(server, session, "paused") - began)
        pause()
        began = time.perf_counter()
        first, _ = server.exec(session, ["true"])
        thawed.append(first - began)
    for _ in range(15):
        server.json("POST", f"/v1/sessions/{session}/pause", {"depth": "hibernate"})
        until(server, session, "hibernated")
        pause()
        began = time.perf_counter()
        first, _ = server.exec(session, ["true"])
        woken.append(first - began)
    limit = bare_freezer()
    row("pause: request → frozen", ms(frozen), "≤ 2 ms", beside(frozen, {"bare cgroup write": limit}))
    row("frozen → a command's end, through the API", ms(thawed), "≤ 2 ms + exec 2 ms")
    row("hibernated → a command's end", ms(woken), "≥ 20× docker start",
        beside(woken, {"docker start": docker_start()}))
    server.json("DELETE", f"/v1/sessions/{session}")


def docker_start(rounds=5):
    """`stop` and `start` plus one command, of whichever of the usual engines works here."""
    for engine in ("docker", "podman"):
        if not shutil.which(engine):
            continue
        with tempfile.TemporaryDirectory() as place:
            root = Path(place) / "rootfs"
            for part in ("bin", "dev", "proc", "sys", "etc"):
                (root / part).mkdir(parents=True)
            busybox = shutil.which("busybox")
            if not busybox:
                return "needs busybox-static for a root file system"
            shutil.copy(busybox, root / "bin/busybox")
            for name in ("sh", "sleep", "true"):
                (root / "bin" / name).symlink_to("busybox")
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            archive = subprocess.run(["tar", "-C", root, "-c", "."], capture_output=True, check=True)
            loaded = subprocess.run([engine, "import", "-", "rclaude-bench"], input=archive.stdout, **quiet)
            run = [engine, "run", "-d", "--network", "none", "--name", "rclaude-bench", "rclaude-bench",
                   "/bin/sleep", "600"]
            if loaded.returncode or subprocess.run(run, **quiet).returncode:
                continue
            samples = []
            for _ in range(rounds):
                subprocess.run([engine, "stop", "-t", "0", "rclaude-bench"], **quiet)
                began = time.perf_counter()
                subprocess.run([engine, "start", "rclaude-bench"], **quiet)
                subprocess.run([engine, "exec", "rclaude-bench", "/bin/true"], **quiet)
                samples.append((time.perf_counter() - began) * 1e3)
            subprocess.run([engine, "rm", "-f", "rclaude-bench"], **quiet)
            subprocess.run([engine, "rmi", "-f", "rclaude-bench"], **quiet)
            samples.sort()
            return samples[len(samples) // 2]
    return "no engine works on this host"


def checkpoints(server):
    session = made(server)
    server.exec(session, ["python3", "-c", FILL.format(files=FILES, megabytes=MEGABYTES)])
    size = f"{MEGABYTES} MB, {FILES:,} files"
    began = time.perf_counter()
    first = server.json("POST", f"/v1/sessions/{session}/checkpoints", {})
    took = time.perf_counter() - began
    row(f"first checkpoint, {size}", f"{took * 1e3:.0f} ms",
        peer=f"{first['method']}: stood still for {first['frozen_micros'] / 1e3:.1f} ms")
    still, whole = [], []
    for number in range(10):
        touch = f"for i in $(seq 1 {FILES // 100}); do echo {number} > src/0/$i; done"
        server.exec(session, ["bash", "-c", touch])
        began = time.perf_counter()
        kept = server.json("POST", f"/v1/sessions/{session}/checkpoints", {})
        whole.append(time.perf_counter() - began)
        still.append(kept["frozen_micros"] / 1e6)
    row("checkpoint after 1 % changed: sandbox stands still", ms(still), "≤ 20 ms on btrfs")
    row("checkpoint after 1 % changed: request → answer", ms(whole))
    for count in (1, 10, 100):
        pause()
        began = time.perf_counter()
        forks = server.json("POST", f"/v1/sessions/{session}/fork", {"count": count})
        forks = forks["data"] if isinstance(forks, dict) else forks
        for fork in forks:
            until(server, fork["id"], "running")
        took = time.perf_counter() - began
        budget = {1: "≤ 15 ms", 100: "≤ 1 s"}.get(count, "")
        row(f"{count} fork{'s' if count > 1 else ''}: request → all running, state kept first",
            f"{took * 1e3:.0f} ms", budget, f"{took * 1e3 / count:.1f} ms each")
        for fork in forks:
            server.json("DELETE", f"/v1/sessions/{fork['id']}")
        time.sleep(1)
    server.json("DELETE", f"/v1/sessions/{session}")


def many(server):
    sessions = [server.json("POST", "/v1/sessions", {})["id"] for _ in range(SESSIONS)]
    for session in sessions:
        until(server, session, "running")
    before = private(server.process.pid)
    for session in sessions:
        server.json("POST", f"/v1/sessions/{session}/pause")
    for session in sessions:
        until(server, session, "paused")
    time.sleep(2)

    def used():
        ticks = Path(f"/proc/{server.process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")

    ticks, began = used(), time.time()
    time.sleep(10)
    cpu = (used() - ticks) / (time.time() - began) * 100
    free = available()
    row(f"{SESSIONS} frozen sessions: server's CPU, private memory", f"{cpu:.2f} %, {before // 1024} MiB",
        peer=f"{free // 1024} MiB available on the host")
    for session in sessions:
        server.json("POST", f"/v1/sessions/{session}/resume")
    for session in sessions:
        until(server, session, "running")
    server.process.kill()
    server.process.wait()
    began = time.perf_counter()
    server.start()
    booted = time.perf_counter() - began
    for session in sessions:
        server.exec(session, ["true"])
    took = time.perf_counter() - began
    row(f"server killed with {SESSIONS} running: boot, then a command in each",
        f"{booted * 1e3:.0f} ms, {took * 1e3:.0f} ms", peer=f"{took * 1e3 / SESSIONS:.1f} ms a session")


def main():
    model = serve_model()
    server = Server(model)
    print(f"load {Path('/proc/loadavg').read_text().split()[0]}")
    try:
        pauses(server)
        checkpoints(server)
        many(server)
    finally:
        server.end()


if __name__ == "__main__":
    main()
