#!/usr/bin/env python3
"""OpenSSH's own client against a session, beside the same client against OpenSSH's server on this
machine: how long a keystroke takes to come back, a command from a new connection, and how fast
bytes pass either way.

The peer is started here, on a free port with keys of its own, where openssh-server is installed."""

import os
import pty
import shutil
import socket
import subprocess
import sys
import time
import tty
from pathlib import Path

from harness import RCLAUDE, Server, row
from terminal import KEYS, echoes, quantiles

MIB = int(os.environ.get("BENCH_SSH_MIB", 512))
COMMANDS = int(os.environ.get("BENCH_SSH_COMMANDS", 50))
SSHD = "/usr/sbin/sshd"


class Peer:
    """OpenSSH's server, and what its client must know of it."""

    def __init__(self, directory):
        directory.mkdir()
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / name],
                           check=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        Path("/run/sshd").mkdir(exist_ok=True)
        (directory / "sshd").write_text(
            f"Port {port}\nListenAddress 127.0.0.1\nHostKey {directory}/host\nUsePAM no\n"
            f"AuthorizedKeysFile {directory}/user.pub\nStrictModes no\nPermitRootLogin yes\n"
            f"PidFile none\nPrintMotd no\nPrintLastLog no\n")
        self.config = directory / "config"
        self.config.write_text(
            f"Host peer\n HostName 127.0.0.1\n Port {port}\n IdentityFile {directory}/user\n"
            f" IdentitiesOnly yes\n UserKnownHostsFile {directory}/known\n"
            " StrictHostKeyChecking accept-new\n LogLevel ERROR\n")
        self.process = subprocess.Popen([SSHD, "-D", "-e", "-f", directory / "sshd"],
                                        stderr=open(directory / "log", "wb"))
        for _ in range(100):
            if subprocess.run(ssh(self.config, "peer", "true"), stderr=subprocess.DEVNULL).returncode == 0:
                return
            time.sleep(0.05)
        sys.exit(f"the peer does not answer: {(directory / 'log').read_text()}")

    def end(self):
        self.process.terminate()
        self.process.wait()


def ssh(config, host, *command):
    return ["ssh", "-F", str(config), host, *command]


def keystrokes(config, host):
    """Echoes of the line discipline there, through a client before a terminal here."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execvp("ssh", ["ssh", "-t", *ssh(config, host)[1:],
                          "stty raw echo; echo ready; exec sleep 1000000"])
    tty.setraw(fd)
    tail = b""
    while b"ready" not in tail:
        tail += os.read(fd, 65536)
    time.sleep(0.3)
    samples = echoes(lambda key: os.write(fd, key), lambda: os.read(fd, 65536), KEYS)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    os.close(fd)
    return samples


def commands(config, host):
    samples = []
    for _ in range(COMMANDS):
        begun = time.perf_counter()
        subprocess.run(ssh(config, host, "true"), check=True, stdin=subprocess.DEVNULL)
        samples.append(time.perf_counter() - begun)
    return samples


def up(config, host):
    begun = time.perf_counter()
    head = subprocess.Popen(["head", "-c", str(MIB << 20), "/dev/zero"], stdout=subprocess.PIPE)
    subprocess.run(ssh(config, host, "cat > /dev/null"), check=True, stdin=head.stdout)
    head.wait()
    return MIB / (time.perf_counter() - begun)


def down(config, host):
    begun = time.perf_counter()
    subprocess.run(ssh(config, host, f"head -c {MIB << 20} /dev/zero"), check=True,
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return MIB / (time.perf_counter() - begun)


def main():
    os.environ["RCLAUDE_SSH"] = "127.0.0.1:0"
    server = Server("http://127.0.0.1:9")
    peer = None
    try:
        server.json("POST", "/v1/sessions", {"name": "box"})
        env = dict(os.environ, HOME=str(server.dir), RCLAUDE_DATA_DIR=str(server.dir / "data"))
        env.pop("XDG_CONFIG_HOME", None)
        told = subprocess.run([RCLAUDE, "ssh-config", "box"], check=True, env=env,
                              stdout=subprocess.PIPE).stdout
        config = server.dir / "ssh_config"
        config.write_bytes(told)
        peer = Peer(server.dir / "peer") if shutil.which(SSHD) else None

        def measured(what, measure, show):
            ours = show(measure(config, "box"))
            row(what, ours, "", f"OpenSSH {show(measure(peer.config, 'peer'))}" if peer else "")

        measured("ssh: keystroke echo, p50 / p99", keystrokes, quantiles)
        measured("ssh: a command by a new connection, p50 / p99", commands, quantiles)
        speed = lambda mib: f"{mib:.0f} MiB/s"
        measured(f"ssh: {MIB} MiB in", up, speed)
        measured(f"ssh: {MIB} MiB out", down, speed)
    finally:
        if peer:
            peer.end()
        server.end()


if __name__ == "__main__":
    main()
