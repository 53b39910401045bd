#!/usr/bin/env python3
"""Measures a whole server from outside, beside what it can be compared with on this machine.

Starts the release build (or the program named by `RCLAUDE_BIN`) on a scratch data directory and
port, with a model API of its own that only notes when requests arrive. Prints one row a figure:
what, ours (p50 / p90), budget, peer, and how many times the peer's figure ours is better (×).
Python's own share of a request (about 0.1 ms) is in every figure measured over HTTP. Where other
work kept the machine busy, the load beside the title says so: a wake-up then waits for the
scheduler's tick, 4 ms on many kernels.
"""

import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from harness import (ROOT, AGENTS, RCLAUDE, Model, Server, available, beside, ms, pause, private,
                     resident, row, serve_model)


def other_engines():
    """What `peers.py` finds, or why it found nothing."""
    run = subprocess.run(["unshare", "-m", ROOT / "bench/peers.py"], capture_output=True, text=True)
    return json.loads(run.stdout) if run.returncode == 0 else {"other engines": "need root"}


def repository(directory, files):
    directory.mkdir(parents=True)
    for number in range(files):
        path = directory / f"src/{number // 50}/file{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number}\n" * 40)
    git = ["git", "-C", directory, "-c", "user.name=b", "-c", "user.email=b@b"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "files"]):
        subprocess.run([*git, *command], check=True)
    return directory


def timed(command, **more):
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more)
    return time.perf_counter() - began


def main():
    if not RCLAUDE.exists() or not AGENTS.exists():
        sys.exit("build with `make release` and install the agent with `make test` or `make demo`")
    model_url = serve_model()
    server = Server(model_url)
    scratch = server.dir
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    print(f"{'what':<52} {'ours (p50 / p90)':<22} {'budget':<20} beside\n" + "-" * 130)
    engines = other_engines()

    boots = []
    for _ in range(10):
        server.stop()
        server.start()
        boots.append(server.boot)
    row("serve: start to first answer", ms(boots), "60 ms")
    time.sleep(1)
    row("serve: resident memory when idle", f"{resident(server.process.pid) / 1024:.1f} MB", "30 MB")

    repo = repository(scratch / "repo", 1000)
    warm = server.json("POST", "/v1/sessions", {"repository": {"url": str(repo)}})["id"]
    server.exec(warm, ["true"])

    # Peers for "a machine with the repository in it".
    clones = []
    for n in range(5):
        clones.append(timed(["git", "clone", "-q", "--shared", repo, scratch / f"clone{n}"]))
    first = []
    for _ in range(30):
        time.sleep(0.1)
        pause()
        began = time.perf_counter()
        session = server.json("POST", "/v1/sessions", {"repository": {"url": str(repo)}})["id"]
        output, _ = server.exec(session, ["echo", "ready"])
        first.append(output - began)
        server.json("DELETE", f"/v1/sessions/{session}")
    peers = {"git clone --shared alone": statistics.median(clones) * 1e3}
    if isinstance(engines.get("podman run"), float):
        peers["podman run + git clone"] = engines["podman run"] + peers["git clone --shared alone"]
    row("POST /v1/sessions to first output, 1,000 files", ms(first), "30 ms", beside(first, peers))

    runs = []
    for _ in range(200):
        pause()
        began = time.perf_counter()
        _, ended = server.exec(warm, ["true"])
        runs.append(ended - began)
    peers = {name: took for name, took in engines.items() if name != "podman run"}
    row("exec true through the API", ms(runs), "2 ms", beside(runs, peers))

    # Prompt to the agent's first model request, and the bare agent's own start-up.
    ours = []
    for _ in range(7):
        session = server.json("POST", "/v1/sessions", {"repository": {"url": str(repo)}})["id"]
        server.exec(session, ["true"])
        Model.arrivals.clear()
        began = time.perf_counter()
        server.json("POST", f"/v1/sessions/{session}/turns", {"text": "hello"})
        while not Model.arrivals:
            time.sleep(0.001)
        ours.append(Model.arrivals[0] - began)
        server.json("DELETE", f"/v1/sessions/{session}")
        time.sleep(1)
    claude = next(AGENTS.glob("claude-code/*/claude"))
    bare = []
    for n in range(7):
        home = scratch / f"home{n}"
        home.mkdir()
        env = {"HOME": str(home), "PATH": "/usr/bin:/bin", "SHELL": "/bin/bash", "IS_SANDBOX": "1",
               "ANTHROPIC_BASE_URL": model_url, "ANTHROPIC_AUTH_TOKEN": "bench",
               "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1"}
        Model.arrivals.clear()
        began = time.perf_counter()
        subprocess.run([claude, "-p", "hello"], env=env, cwd=repo, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        bare.append(Model.arrivals[0] - began)
        time.sleep(1)
    row("prompt to the agent's first model request", ms(ours), "bare claude + 60 ms",
        f"claude -p {ms(bare)}")

    if shutil.which("wrk"):
        out = subprocess.run(
            ["wrk", "-t2", "-c32", "-d5s", "-H", f"authorization: Bearer {server.token}",
             f"http://127.0.0.1:{server.port}/v1/sessions/{warm}"],
            capture_output=True, text=True, check=True).stdout
        rate = next(l for l in out.splitlines() if "Requests/sec" in l).split()[1]
        row("GET /v1/sessions/{id}, 32 connections", f"{float(rate):,.0f} /s", "15,000 /s",
            "Coder: 180 /s on 2 vCPU (published)")

    many = 50
    time.sleep(2)
    before = available()
    sessions = [server.json("POST", "/v1/sessions", {})["id"] for _ in range(many)]
    for session in sessions:
        server.exec(session, ["true"])
    time.sleep(3)
    each = (before - available()) / many
    row(f"{many} idle sandboxes: memory each, server's share included", f"{each:.0f} KiB", "1,536 KiB",
        f"{1024 * 1024 / max(each, 1):,.0f} to the GB")
    daemons = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()
               and (p / "comm").exists() and (p / "comm").read_text().startswith("agentd")]
    if daemons:
        row("daemon: private memory", f"{statistics.median(map(private, daemons)):.0f} KiB", "1,024 KiB")
    row(f"serve: resident memory with {many} sessions", f"{resident(server.process.pid) / 1024:.1f} MB")
    server.end()


main()
