#!/usr/bin/env python3
"""Times what other engines take for a command in a machine that runs, and for a machine.

Prints one JSON object: a row's name to milliseconds (p50), or to why it could not be measured.
Run it as root, in a mount namespace of its own: `unshare -m bench/peers.py`. Some engines refuse a
host that has cgroups of both versions, so the version 2 tree is taken away there first.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONFIG = {
    "ociVersion": "1.0.2",
    "root": {"path": "rootfs", "readonly": True},
    "process": {
        "cwd": "/", "args": ["/bin/sleep", "300"], "env": ["PATH=/usr/bin:/bin"],
        "user": {"uid": 0, "gid": 0}, "noNewPrivileges": True, "capabilities": {},
    },
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
        {"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"]},
    ],
    "linux": {"namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")]},
}
QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}


def timed(command, rounds):
    """The median of so many runs in milliseconds, or the first line of what it said instead."""
    samples = []
    for _ in range(rounds):
        began = time.perf_counter()
        run = subprocess.run(command, **QUIET, check=False)
        if run.returncode:
            said = run.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
            return f"refuses on this host: {said[-1][:80]}"
        samples.append(time.perf_counter() - began)
    return round(statistics.median(samples) * 1e3, 1)


def exec_in(name, start, command, end):
    """Starts a machine, times a command in it, ends the machine."""
    if not shutil.which(name):
        return "not installed"
    run = subprocess.run(start, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL, check=False)
    try:
        return "does not start on this host" if run.returncode else timed(command, 15)
    finally:
        subprocess.run(end, **QUIET, check=False)


def main():
    if os.readlink("/proc/self/ns/mnt") == os.readlink(f"/proc/{os.getppid()}/ns/mnt"):
        sys.exit("peers.py: run it as `unshare -m bench/peers.py`: it changes mounts")
    subprocess.run(["umount", "/sys/fs/cgroup/unified"], **QUIET, check=False)
    bundle = Path(tempfile.mkdtemp(prefix="rclaude-peers-"))
    root = bundle / "rootfs"
    for name in ("usr", "proc", "dev", "sys", "tmp"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    (bundle / "config.json").write_text(json.dumps(CONFIG))
    limits = ["--network=none", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"]
    podman = ["podman", "run", "--rm", *limits, "--volume=/usr:/usr:ro"]
    found = {"fork and exec on the host": timed(["/bin/true"], 50)}
    for runtime in ("crun", "runc"):
        box = f"rclaude-peers-{runtime}"
        found[f"{runtime} exec"] = exec_in(
            runtime, [runtime, "run", "--detach", "--bundle", bundle, box],
            [runtime, "exec", box, "/bin/true"], [runtime, "delete", "--force", box])
    box = "rclaude-peers-podman"
    found["podman exec"] = exec_in(
        "podman", [*podman, "--detach", f"--name={box}", "--rootfs", root, "/bin/sleep", "300"],
        ["podman", "exec", box, "/bin/true"], ["podman", "rm", "--force", "--time=0", box])
    if shutil.which("podman"):
        found["podman run"] = timed([*podman, "--rootfs", root, "/bin/true"], 7)
    shutil.rmtree(bundle, ignore_errors=True)
    print(json.dumps(found))


main()
