"""A whole server for measuring: the release build on a scratch data directory and port, with a
model API of its own that only notes when requests arrive. Rows are printed as they are measured."""

import http.client
import http.server
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RCLAUDE = Path(os.environ.get("RCLAUDE_BIN", ROOT / "target/release/rclaude"))
AGENTS = Path(os.environ.get("RCLAUDE_TEST_DATA", ROOT / ".tools/data")) / "agents"


def row(what, ours, budget="", peer=""):
    print(f"{what:<52} {ours:<22} {budget:<20} {peer}", flush=True)


def ms(samples):
    samples = sorted(samples)
    p90 = samples[min(len(samples) - 1, int(len(samples) * 0.9))]
    return f"{statistics.median(samples) * 1e3:.2f} / {p90 * 1e3:.2f} ms"


def pause(patience=0.3):
    """Waits for a moment in which nothing else runs on the machine, but not for ever."""
    until = time.time() + patience
    while time.time() < until:
        if Path("/proc/loadavg").read_text().split()[3].split("/")[0] == "1":
            return
        time.sleep(0.001)


def beside(ours, peers):
    """Peers' milliseconds with how many times ours goes into them."""
    ours = statistics.median(ours) * 1e3
    return ", ".join(f"{name} {took:.1f} ms ({took / ours:.1f}×)" if isinstance(took, (int, float))
                     else f"{name}: {took}" for name, took in peers.items())


class Model(http.server.BaseHTTPRequestHandler):
    """Notes when a model request arrives, and refuses it so that the agent gives up at once."""

    arrivals = []
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        Model.arrivals.append(time.perf_counter())
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body = b'{"type":"error","error":{"type":"invalid_request_error","message":"bench"}}'
        self.send_response(400)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            pass  # The agent had heard enough.

    def log_message(self, *_):
        pass


class Server:
    def __init__(self, model_url):
        self.dir = Path(tempfile.mkdtemp(prefix="rclaude-bench-"))
        (self.dir / "data").mkdir()
        (self.dir / "data/agents").symlink_to(AGENTS)
        self.model_url = model_url
        self.process = None
        self.start()

    def start(self):
        env = dict(os.environ, ANTHROPIC_API_KEY="bench", RCLAUDE_DATA_DIR=str(self.dir / "data"))
        log = open(self.dir / "log", "ab")
        began = time.perf_counter()
        self.process = subprocess.Popen(
            [RCLAUDE, "serve", "--listen", "127.0.0.1:0", "--llm-url", self.model_url],
            env=env, stdout=log, stderr=log)
        file = self.dir / "data/server.json"
        while True:
            try:
                found = json.loads(file.read_text())
                if found["pid"] == self.process.pid:
                    self.port = int(found["url"].rsplit(":", 1)[1].strip("/"))
                    http.client.HTTPConnection("127.0.0.1", self.port).request("GET", "/healthz")
                    break
            except (OSError, ValueError, KeyError):
                if self.process.poll() is not None:
                    sys.exit((self.dir / "log").read_text())
            time.sleep(0.0005)
        self.boot = time.perf_counter() - began
        self.token = (self.dir / "data/token").read_text().strip()
        self.connect()

    def connect(self):
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port)
        self.connection.connect()
        self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.used = time.time()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()

    def call(self, method, path, body=None):
        headers = {"authorization": f"Bearer {self.token}", "content-type": "application/json"}
        if time.time() - self.used > 3:
            # The server closes connections that were idle for long.
            self.connect()
        self.connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        self.used = time.time()
        return self.connection.getresponse()

    def json(self, method, path, body=None):
        response = self.call(method, path, body)
        data = response.read()
        if response.status >= 300:
            sys.exit(f"{method} {path}: {response.status} {data.decode()}")
        return json.loads(data) if data else None

    def exec(self, session, command):
        """Runs a command to its end; when its first byte and when its end arrived."""
        response = self.call("POST", f"/v1/sessions/{session}/execs?follow=true", {"command": command})
        first = None
        for line in response:
            frame = json.loads(line)
            if frame["type"] == "output" and first is None:
                first = time.perf_counter()
            if frame["type"] == "exited":
                ended = time.perf_counter()
                if frame.get("code") != 0:
                    sys.exit(f"{command}: {frame}")
        response.read()
        return first or ended, ended

    def end(self):
        for session in self.json("GET", "/v1/sessions?limit=200")["data"]:
            self.json("DELETE", f"/v1/sessions/{session['id']}")
        deadline = time.time() + 60
        sandboxes = self.dir / "data/engine/sandboxes"
        while sandboxes.exists() and any(sandboxes.iterdir()) and time.time() < deadline:
            time.sleep(0.1)
        self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)


def resident(pid, field="Rss"):
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    return 0


def private(pid):
    return resident(pid, "Private_Clean") + resident(pid, "Private_Dirty")


def available():
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable"):
            return int(line.split()[1])


def serve_model():
    """Serves the model API; its URL."""
    model = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=model.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{model.server_port}"
