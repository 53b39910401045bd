#!/usr/bin/env python3
"""Measures what a program with E2B's own Python library waits for, against this server: a sandbox
made and its first command run, one after the other and twenty at once, and a command's way there
and back.

The figures hold the library's own share, which is most of a short command. The libraries are those
that the tests use (`scripts/setup.sh test`).
"""

import os
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from harness import AGENTS, RCLAUDE, ROOT, Server, ms, row, serve_model

VERSION = "2.63.0"
PYTHON = ROOT / f".tools/e2b/py-{VERSION}/bin/python"
# Published, over the Internet, from the call to the first command's end (computesdk, May 2026).
PUBLISHED = "E2B 491 / 686 ms (p50 / p95, published)"
PUBLISHED_BURST = "E2B 822 / 965 ms (p50 / p95, published)"


def timed(work):
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main():
    if not RCLAUDE.exists() or not AGENTS.exists():
        sys.exit("build with `make release` and install the agent with `make test` or `make demo`")
    if not PYTHON.exists():
        sys.exit("the library is not installed: run `scripts/setup.sh test`")
    if sys.prefix != str(PYTHON.parent.parent):
        os.execv(PYTHON, [PYTHON, *sys.argv])
    server = Server(serve_model())
    try:
        measure(server)
    finally:
        server.end()


def measure(server):
    # The library has this file's name.
    sys.path.remove(str(ROOT / "bench"))
    from e2b import Sandbox

    url = f"http://127.0.0.1:{server.port}"
    os.environ |= {"E2B_API_URL": url, "E2B_SANDBOX_URL": url, "E2B_API_KEY": server.token}
    boxes = []

    def first_command():
        box = Sandbox.create(timeout=600)
        boxes.append(box)
        assert box.commands.run("echo hi").stdout == "hi\n"

    first_command()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors, e2b {VERSION}")
    one_by_one = [timed(first_command) for _ in range(20)]
    row("create to first command, one after the other", ms(one_by_one), "", PUBLISHED)
    with ThreadPoolExecutor(20) as pool:
        began = time.perf_counter()
        burst = list(pool.map(lambda _: timed(first_command), range(20)))
        whole = time.perf_counter() - began
    row("create to first command, 20 at once", ms(burst), "", PUBLISHED_BURST)
    row("  all 20 of them", f"{whole * 1e3:.0f} ms")
    box = boxes[0]
    row("commands.run('true')", ms([timed(lambda: box.commands.run("true")) for _ in range(200)]))
    row("files.write, 10 bytes", ms([timed(lambda: box.files.write("f", "x" * 10)) for _ in range(100)]))
    row("files.read, 10 bytes", ms([timed(lambda: box.files.read("f")) for _ in range(100)]))
    data = os.urandom(32 << 20)
    took = statistics.median(timed(lambda: box.files.write("big", data)) for _ in range(3))
    row("files.write, 32 MiB", f"{32 / took:.0f} MiB/s")
    took = statistics.median(timed(lambda: box.files.read("big", format="bytes")) for _ in range(3))
    row("files.read, 32 MiB", f"{32 / took:.0f} MiB/s")
    row("pause / connect", f"{ms([timed(box.pause)])}, {ms([timed(box.connect)])}")
    for box in boxes:
        box.kill()


if __name__ == "__main__":
    main()
