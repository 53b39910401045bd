"""What a program written with E2B's Python SDK does, with the newest one."""

import asyncio
import base64
import hashlib
import io
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import e2b
from e2b import (
    AsyncSandbox,
    AuthenticationException,
    CommandExitException,
    FilesystemEventType,
    FileType,
    InvalidArgumentException,
    NotFoundException,
    PtySize,
    Sandbox,
    SandboxException,
    SandboxNotFoundException,
    SandboxQuery,
    SandboxState,
    TimeoutException,
)

from e2b.sandbox.filesystem.filesystem import WriteEntry

from checks import check, raises, run, until


# --- what a sandbox is ---------------------------------------------------------------------------


@check
def a_command_runs_and_a_file_comes_back(sandbox):
    result = sandbox.commands.run("echo hi")
    assert (result.stdout, result.stderr, result.exit_code) == ("hi\n", "", 0)
    sandbox.files.write("a.txt", "content")
    assert sandbox.files.read("a.txt") == "content"
    assert sandbox.is_running()


@check
def a_sandbox_says_what_it_is(sandbox):
    info = sandbox.get_info()
    assert info.sandbox_id == sandbox.sandbox_id
    assert info.sandbox_id.isalnum() and info.sandbox_id.islower()
    assert info.template_id == "base"
    assert info.state == SandboxState.RUNNING
    assert info.metadata == {"suite": "python", "spaced key": "a=b & c"}
    assert info.started_at < info.end_at
    assert info.cpu_count >= 1 and info.memory_mb >= 64


@check
def its_home_user_and_environment_are_as_in_the_original(sandbox):
    assert sandbox.commands.run("pwd").stdout == "/home/user\n"
    assert sandbox.commands.run("echo $HOME $USER $E2B_SANDBOX").stdout == "/home/user user true\n"
    assert sandbox.commands.run("echo $E2B_SANDBOX_ID").stdout.strip() == sandbox.sandbox_id
    assert sandbox.commands.run("echo $FROM_CREATE").stdout == "yes\n"
    result = sandbox.commands.run("echo $FROM_CREATE $OWN", envs={"FROM_CREATE": "no", "OWN": "1"})
    assert result.stdout == "no 1\n"


@check
def root_may_what_the_user_may_not(sandbox):
    assert sandbox.commands.run("id -u", user="root").stdout == "0\n"
    assert sandbox.commands.run("id -u", user="user").stdout == "1000\n"
    sandbox.files.write("/root/secret", "x", user="root")
    assert sandbox.files.read("/root/secret", user="root") == "x"
    raises(SandboxException, lambda: sandbox.files.read("/root/secret"))
    raises(AuthenticationException, lambda: sandbox.commands.run("true", user="nobody"), "nobody")


# --- commands ------------------------------------------------------------------------------------


@check
def a_command_that_fails_says_how(sandbox):
    call = lambda: sandbox.commands.run("echo out; echo err >&2; exit 3")
    error = raises(CommandExitException, call)
    assert (error.exit_code, error.stdout, error.stderr) == (3, "out\n", "err\n")


@check
def output_streams_as_it_comes(sandbox):
    pieces = []
    result = sandbox.commands.run(
        "for i in 1 2 3; do echo $i; sleep 0.1; done; echo e >&2",
        on_stdout=lambda text: pieces.append(("out", text)),
        on_stderr=lambda text: pieces.append(("err", text)),
    )
    assert "".join(text for kind, text in pieces if kind == "out") == "1\n2\n3\n" == result.stdout
    assert [text for kind, text in pieces if kind == "err"] == ["e\n"]
    assert len(pieces) >= 3, pieces


@check
def much_output_arrives_whole_and_as_it_was_printed(sandbox):
    result = sandbox.commands.run("seq 1 200000", timeout=60)
    assert result.stdout == "".join(f"{n}\n" for n in range(1, 200001))
    text = "häß€ 🙂 " * 20000
    sandbox.files.write("text", text)
    assert sandbox.commands.run("cat text").stdout == text


@check
def a_background_command_is_written_to_listed_and_ended(sandbox):
    handle = sandbox.commands.run("cat", background=True, stdin=True)
    found = [it for it in sandbox.commands.list() if it.pid == handle.pid]
    assert len(found) == 1 and found[0].args[-1] == "cat" and found[0].cmd == "/bin/bash"
    sandbox.commands.send_stdin(handle.pid, "one\n")
    sandbox.commands.send_stdin(handle.pid, "two\n")
    seen = ""
    for stdout, _, _ in handle:
        seen += stdout or ""
        if seen == "one\ntwo\n":
            break
    sandbox.commands.close_stdin(handle.pid)
    assert handle.wait().exit_code == 0
    assert handle.pid not in [it.pid for it in sandbox.commands.list()]


@check
def input_may_be_streamed(sandbox):
    handle = sandbox.commands.run("sha256sum", background=True, stdin=True)
    blocks = [bytes([n]) * 50_000 for n in range(10)]
    sandbox.commands.stream_input(handle.pid, iter(blocks))
    sandbox.commands.close_stdin(handle.pid)
    assert handle.wait().stdout.split()[0] == hashlib.sha256(b"".join(blocks)).hexdigest()


@check
def a_command_that_is_killed_says_so(sandbox):
    handle = sandbox.commands.run("sleep 60", background=True)
    assert sandbox.commands.kill(handle.pid) is True
    error = raises(CommandExitException, handle.wait)
    assert (error.exit_code, error.error) == (-1, "signal: killed")
    assert sandbox.commands.kill(handle.pid) is False
    assert sandbox.commands.kill(4_000_000) is False


@check
def a_command_ends_with_its_time(sandbox):
    began = time.monotonic()
    raises(TimeoutException, lambda: sandbox.commands.run("echo $$ > pid; sleep 30", timeout=1))
    assert time.monotonic() - began < 5
    pid = sandbox.files.read("pid").strip()
    until(lambda: sandbox.commands.run(f"test -d /proc/{pid} || echo gone").stdout)


@check
def a_command_goes_on_without_its_client_and_is_come_back_to(sandbox):
    handle = sandbox.commands.run(
        "echo early; until [ -e go ]; do sleep 0.05; done; echo late; exit 5", background=True
    )
    for stdout, _, _ in handle:
        assert stdout == "early\n"
        break
    handle.disconnect()
    again = sandbox.commands.connect(handle.pid)
    assert again.pid == handle.pid
    sandbox.files.write("go", "")
    error = raises(CommandExitException, again.wait)
    assert (error.stdout, error.exit_code) == ("late\n", 5)


@check
def what_was_printed_while_nobody_looked_is_not_lost(sandbox):
    handle = sandbox.commands.run(
        "echo 1; until [ -e on ]; do sleep 0.02; done; echo 2; touch said; sleep 1", background=True
    )
    for _ in handle:
        break
    handle.disconnect()
    sandbox.files.write("on", "")
    until(lambda: sandbox.files.exists("said"))
    assert sandbox.commands.connect(handle.pid).wait().stdout == "2\n"


@check
def a_wrong_directory_and_a_strange_process_are_told(sandbox):
    raises(InvalidArgumentException, lambda: sandbox.commands.run("pwd", cwd="/no/such"))
    raises(NotFoundException, lambda: sandbox.commands.connect(3_999_999))
    raises(SandboxException, lambda: sandbox.commands.send_stdin(3_999_999, "x"))
    assert sandbox.commands.run("pwd", cwd="/tmp").stdout == "/tmp\n"


@check
def many_commands_run_side_by_side(sandbox):
    with ThreadPoolExecutor(20) as pool:
        results = list(pool.map(lambda n: sandbox.commands.run(f"echo {n}").stdout, range(50)))
    assert results == [f"{n}\n" for n in range(50)]


# --- terminals -----------------------------------------------------------------------------------


def follow(handle, seen, on_done=None):
    def read():
        handle.wait(on_pty=lambda data: seen.append(data))

    def quietly():
        try:
            read()
        except Exception as error:
            seen.append(repr(error).encode())

    thread = threading.Thread(target=quietly, daemon=True)
    thread.start()
    return thread


@check
def a_terminal_is_typed_into_resized_and_ended(sandbox):
    terminal = sandbox.pty.create(PtySize(rows=24, cols=80), envs={"OWN": "blue"})
    seen = []
    reader = follow(terminal, seen)
    text = lambda: b"".join(seen).decode(errors="replace")
    sandbox.pty.send_stdin(terminal.pid, b"stty size; echo colour=$OWN term=$TERM\n")
    until(lambda: "24 80" in text() and "colour=blue term=xterm-256color" in text())
    sandbox.pty.resize(terminal.pid, PtySize(rows=30, cols=100))
    sandbox.pty.send_stdin(terminal.pid, b"stty size\n")
    until(lambda: "30 100" in text())
    assert sandbox.pty.kill(terminal.pid) is True
    reader.join(10)
    assert not reader.is_alive()
    assert sandbox.pty.kill(terminal.pid) is False


@check
def a_terminal_is_come_back_to(sandbox):
    terminal = sandbox.pty.create(PtySize(rows=24, cols=80))
    sandbox.pty.send_stdin(terminal.pid, b"echo fir''st\n")
    terminal.disconnect()
    again, seen = sandbox.pty.connect(terminal.pid), []
    follow(again, seen)
    sandbox.pty.send_stdin(terminal.pid, b"echo sec''ond; exit 0\n")
    until(lambda: b"second" in b"".join(seen))


@check
def input_of_the_wrong_kind_is_refused(sandbox):
    terminal = sandbox.pty.create(PtySize(rows=24, cols=80))
    raises(SandboxException, lambda: sandbox.commands.send_stdin(terminal.pid, "x"), "pty")
    raises(SandboxException, lambda: sandbox.commands.close_stdin(terminal.pid), "Ctrl+D")
    sandbox.pty.kill(terminal.pid)
    raises(InvalidArgumentException, lambda: sandbox.pty.create(PtySize(rows=0, cols=1)))


# --- files ---------------------------------------------------------------------------------------


@check
def files_are_written_and_read_in_every_form(sandbox):
    binary = bytes(range(256)) * 2000
    info = sandbox.files.write("deep/er/file.bin", binary)
    assert (info.name, info.path) == ("file.bin", "/home/user/deep/er/file.bin")
    assert bytes(sandbox.files.read("deep/er/file.bin", format="bytes")) == binary
    stream = sandbox.files.read("deep/er/file.bin", format="stream")
    assert b"".join(stream) == binary
    sandbox.files.write("stream.bin", io.BytesIO(binary))
    assert bytes(sandbox.files.read("stream.bin", format="bytes")) == binary
    sandbox.files.write("packed.bin", binary, gzip=True)
    assert bytes(sandbox.files.read("packed.bin", format="bytes", gzip=True)) == binary
    sandbox.files.write("plain", "octets", use_octet_stream=True)
    assert sandbox.files.read("plain") == "octets"
    sandbox.files.write("empty", "")
    assert sandbox.files.read("empty") == ""
    sandbox.files.write("~/at home", "~")
    assert sandbox.files.read("/home/user/at home") == "~"


@check
def several_files_are_written_at_once(sandbox):
    entries = [WriteEntry(path=f"many/{n}", data=f"number {n}") for n in range(20)]
    written = sandbox.files.write_files(entries)
    assert [it.path for it in written] == [f"/home/user/many/{n}" for n in range(20)]
    assert sandbox.files.read("many/13") == "number 13"
    assert sandbox.files.write_files([]) == []


@check
def wrong_paths_are_told_apart(sandbox):
    raises(NotFoundException, lambda: sandbox.files.read("no such file"))
    raises(NotFoundException, lambda: sandbox.files.get_info("no such file"))
    raises(NotFoundException, lambda: sandbox.files.list("no such directory"))
    sandbox.files.write("a file", "")
    raises(InvalidArgumentException, lambda: sandbox.files.list("a file"))
    raises(SandboxException, lambda: sandbox.files.read("/tmp"))
    raises(SandboxException, lambda: sandbox.files.write("/tmp", "x"))
    raises(SandboxException, lambda: sandbox.files.write("/etc/passwd", "x"))
    assert sandbox.files.exists("a file") and not sandbox.files.exists("another file")


@check
def directories_are_made_once_listed_and_removed(sandbox):
    assert sandbox.files.make_dir("dir/one/two") is True
    assert sandbox.files.make_dir("dir/one/two") is False
    sandbox.files.write("dir/file", "12345")
    sandbox.commands.run("ln -s file dir/link && ln -s nowhere dir/broken")
    listed = {it.name: it for it in sandbox.files.list("dir")}
    assert sorted(listed) == ["broken", "file", "link", "one"]
    assert listed["one"].type == FileType.DIR and listed["file"].type == FileType.FILE
    assert listed["link"].type == FileType.FILE
    assert listed["link"].symlink_target == "/workspace/dir/file"
    assert (listed["file"].size, listed["file"].path) == (5, "/home/user/dir/file")
    deep = [it.path for it in sandbox.files.list("dir", depth=5)]
    assert "/home/user/dir/one/two" in deep
    raises(InvalidArgumentException, lambda: sandbox.files.list("dir", depth=0))
    sandbox.files.remove("dir")
    assert not sandbox.files.exists("dir")
    sandbox.files.remove("dir")


@check
def a_files_facts_are_as_the_shell_has_them(sandbox):
    sandbox.files.write("facts", "test")
    info = sandbox.files.get_info("facts")
    assert (info.name, info.type, info.size) == ("facts", FileType.FILE, 4)
    assert (info.mode, info.permissions) == (0o644, "-rw-r--r--")
    assert (info.owner, info.group) == ("user", "user")
    assert info.path == sandbox.commands.run("pwd").stdout.strip() + "/facts"
    modified = float(sandbox.commands.run("stat -c %.6Y facts").stdout)
    assert abs(info.modified_time.timestamp() - modified) < 0.001


@check
def a_file_is_moved_with_the_directories_it_needs(sandbox):
    sandbox.files.write("before", "moved")
    moved = sandbox.files.rename("before", "new/place/after")
    assert (moved.name, moved.path) == ("after", "/home/user/new/place/after")
    assert sandbox.files.read("new/place/after") == "moved"
    assert not sandbox.files.exists("before")
    raises(NotFoundException, lambda: sandbox.files.rename("before", "x"))


@check
def a_watch_tells_what_changed(sandbox):
    sandbox.files.make_dir("watched/inner")
    watch = sandbox.files.watch_dir("watched")
    sandbox.files.write("watched/file", "1")
    kinds = [(it.type, it.name) for it in watch.get_new_events()]
    wanted = [FilesystemEventType.CREATE, FilesystemEventType.CHMOD, FilesystemEventType.WRITE]
    assert kinds == [(kind, "file") for kind in wanted], kinds
    sandbox.commands.run("echo 2 >> watched/file")
    assert (FilesystemEventType.WRITE, "file") in [
        (it.type, it.name) for it in watch.get_new_events()
    ]
    sandbox.files.write("watched/inner/deep", "not told")
    assert [it.name for it in watch.get_new_events() if "deep" in it.name] == []
    sandbox.files.remove("watched/file")
    assert (FilesystemEventType.REMOVE, "file") in [
        (it.type, it.name) for it in watch.get_new_events()
    ]
    watch.stop()
    raises(SandboxException, watch.get_new_events)


@check
def a_watch_of_a_tree_tells_of_all_of_it(sandbox):
    sandbox.files.make_dir("tree/a/b")
    watch = sandbox.files.watch_dir("tree", recursive=True, include_entry=True)
    sandbox.files.write("tree/a/b/file", "123")
    told = [it for it in watch.get_new_events() if it.name == "a/b/file"]
    assert told and told[-1].entry.size == 3 and told[-1].entry.path.endswith("/tree/a/b/file")
    watch.stop()
    raises(NotFoundException, lambda: sandbox.files.watch_dir("no such directory"))
    sandbox.files.write("only a file", "")
    raises(SandboxException, lambda: sandbox.files.watch_dir("only a file"))


@check
def metadata_of_files_is_refused_in_words(sandbox):
    call = lambda: sandbox.files.write("tagged", "x", metadata={"a": "b"})
    raises(SandboxException, call, "not possible")
    assert not sandbox.files.exists("tagged")


@check
def a_signed_address_is_for_one_file_and_one_thing(sandbox):
    sandbox.files.write("shared.txt", "for you")
    headers = {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": "49983"}

    def fetch(url, data=None, more={}):
        request = urllib.request.Request(url, data=data, headers={**headers, **more})
        with urllib.request.urlopen(request) as answer:
            return answer.read()

    def refused(url, data=None, more={}):
        return raises(urllib.error.HTTPError, lambda: fetch(url, data, more)).code

    url = sandbox.download_url("shared.txt", use_signature_expiration=60)
    assert fetch(url) == b"for you"
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"for you", "as it is, in a browser"
    assert refused(url.replace("shared.txt", "a.txt")) == 401
    assert refused(url, b"x", {"content-type": "application/octet-stream"}) == 401
    assert refused(sandbox.download_url("shared.txt", use_signature_expiration=-10)) == 401
    upload = sandbox.upload_url("uploaded.txt", use_signature_expiration=60)
    fetch(upload, b"from outside", {"content-type": "application/octet-stream"})
    assert sandbox.files.read("uploaded.txt") == "from outside"


@check
def git_works_as_the_sdk_uses_it(sandbox):
    git = sandbox.git
    git.init("/home/user/repo", initial_branch="main")
    git.configure_user("Test", "test@example.invalid")
    sandbox.files.write("repo/file", "one\n")
    git.add("/home/user/repo")
    git.commit("/home/user/repo", "first")
    git.create_branch("/home/user/repo", "work")
    sandbox.files.write("repo/other", "two\n")
    status = git.status("/home/user/repo")
    assert status.current_branch == "work" and len(status.file_status) == 1
    assert sorted(git.branches("/home/user/repo").branches) == ["main", "work"]


# --- life ----------------------------------------------------------------------------------------


@check
def a_sandbox_that_was_paused_goes_on_where_it_was(sandbox):
    box = Sandbox.create(timeout=60)
    try:
        handle = box.commands.run("while :; do sleep 0.1; done", background=True)
        box.files.write("kept", "yes")
        assert box.pause() is True
        assert not box.is_running()
        assert box.get_info().state == SandboxState.PAUSED
        assert box.pause() is False
        again = Sandbox.connect(box.sandbox_id, timeout=60)
        assert again.files.read("kept") == "yes"
        assert handle.pid in [it.pid for it in again.commands.list()]
        assert box.is_running()
    finally:
        box.kill()


@check
def a_sandbox_that_is_set_aside_is_not_there_for_its_calls(sandbox):
    box = Sandbox.create(timeout=60)
    try:
        box.pause()
        error = raises(SandboxException, lambda: box.commands.run("true"))
        assert "not found" in str(error) or "not running" in str(error).lower(), error
        raises(SandboxException, lambda: box.files.list("/"))
    finally:
        assert box.kill() is True
    assert box.kill() is False
    assert not box.is_running()
    raises(SandboxNotFoundException, lambda: Sandbox.connect(box.sandbox_id))


@check
def killing_a_sandbox_ends_its_commands_calls(sandbox):
    box = Sandbox.create(timeout=60)
    handle = box.commands.run("sleep 60", background=True)
    box.kill()
    raises(Exception, handle.wait)


@check
def time_is_set_prolonged_and_runs_out(sandbox):
    box = Sandbox.create(timeout=300)
    try:
        first = box.get_info().end_at
        box.set_timeout(600)
        longer = box.get_info().end_at
        assert 290 < (longer - first).total_seconds() < 310
        Sandbox.connect(box.sandbox_id, timeout=10)
        assert box.get_info().end_at == longer, "connecting never shortens"
        box.set_timeout(1)
        until(lambda: not box.is_running())
        # Nobody wrote out that its work was to go: it is set aside.
        assert box.get_info().state == SandboxState.PAUSED
        box.connect(timeout=60)
        assert box.commands.run("echo back").stdout == "back\n"
    finally:
        box.kill()


@check
def at_its_end_it_is_paused_or_killed_as_was_chosen(sandbox):
    kept = Sandbox.create(timeout=2, lifecycle={"on_timeout": "pause"})
    gone = Sandbox.create(timeout=2, lifecycle={"on_timeout": "kill"})
    try:
        pid = kept.commands.run("sleep 100", background=True).pid
        until(lambda: not kept.is_running() and not gone.is_running())
        assert kept.get_info().state == SandboxState.PAUSED
        assert pid in [it.pid for it in kept.connect(timeout=60).commands.list()]
    finally:
        kept.kill()


@check
def a_call_brings_back_a_sandbox_that_may_be(sandbox):
    box = Sandbox.create(timeout=60, lifecycle={"on_timeout": "pause", "auto_resume": True})
    try:
        box.pause()
        assert box.commands.run("echo awake").stdout == "awake\n"
        assert box.is_running()
    finally:
        box.kill()


@check
def lists_have_filters_and_pages(sandbox):
    mark = f"mark {time.time_ns()} =&ä"
    boxes = [Sandbox.create(timeout=60, metadata={"mark": mark, "n": str(n)}) for n in range(3)]
    try:
        ids = [box.sandbox_id for box in boxes]

        def listed(limit=None, **query):
            query = SandboxQuery(metadata={"mark": mark, **query.pop("metadata", {})}, **query)
            paginator, found = Sandbox.list(query=query, limit=limit), []
            while paginator.has_next:
                page = paginator.next_items()
                assert limit is None or len(page) <= limit
                found += [it.sandbox_id for it in page]
            return found

        assert listed() == ids[::-1], "newest first"
        assert listed(limit=1) == ids[::-1]
        assert listed(metadata={"n": "1"}) == [ids[1]]
        boxes[0].pause()
        assert listed(state=[SandboxState.PAUSED]) == [ids[0]]
        assert listed(state=[SandboxState.RUNNING]) == [ids[2], ids[1]]
    finally:
        for box in boxes:
            box.kill()
    assert listed() == []


@check
def fifty_at_once_are_all_there(sandbox):
    def one(n):
        box = Sandbox.create(timeout=120)
        try:
            return box.commands.run(f"echo {n}").stdout
        finally:
            box.kill()

    with ThreadPoolExecutor(50) as pool:
        assert list(pool.map(one, range(50))) == [f"{n}\n" for n in range(50)]


@check
def a_snapshot_is_a_template(sandbox):
    box = Sandbox.create(timeout=60, envs={"OLD": "1"})
    try:
        box.files.write("state", "first")
        snapshot = box.create_snapshot(name="before")
        box.files.write("state", "second")
        copy = Sandbox.create(snapshot.snapshot_id, timeout=60, envs={"NEW": "2"})
        try:
            assert copy.files.read("state") == "first"
            assert copy.commands.run("echo $NEW").stdout == "2\n"
            assert box.files.read("state") == "second"
        finally:
            copy.kill()
        listed = box.list_snapshots().next_items()
        assert [it.snapshot_id for it in listed] == [snapshot.snapshot_id]
    finally:
        box.kill()


@check
def forks_go_on_from_the_present_state_each_for_itself(sandbox):
    box = Sandbox.create(timeout=60)
    try:
        box.files.write("state", "common")
        one, two = box.fork(count=2, timeout=60)
        try:
            assert [it.files.read("state") for it in (one, two)] == ["common", "common"]
            one.files.write("state", "own")
            assert (two.files.read("state"), box.files.read("state")) == ("common", "common")
        finally:
            one.kill()
            two.kill()
    finally:
        box.kill()


@check
def what_a_sandbox_uses_is_measured(sandbox):
    [now] = sandbox.get_metrics()
    assert now.cpu_count >= 1 and 0 <= now.cpu_used_pct <= 100
    assert 0 < now.mem_used <= now.mem_total and 0 < now.disk_used <= now.disk_total


# --- refusals ------------------------------------------------------------------------------------


@check
def what_there_is_none_of_is_refused(sandbox):
    raises(SandboxException, lambda: Sandbox.create("no-such-template"), "no-such-template")
    raises(SandboxException, lambda: Sandbox.create(mcp={"duckduckgo": {}}), "mcp")
    network = {"allow_out": ["example.org"], "deny_out": ["0.0.0.0/0"]}
    raises(SandboxException, lambda: Sandbox.create(network=network), "allowOut")
    raises(SandboxException, lambda: Sandbox.create(timeout=-1))
    raises(AuthenticationException, lambda: Sandbox.create(api_key="e2b_00"))
    raises(e2b.VolumeException, e2b.Volume.list, "not possible")
    Sandbox.create(network={"deny_out": ["0.0.0.0/0"]}, timeout=60).kill()


@check
def nobody_enters_without_the_sandboxes_own_token(sandbox):
    other = Sandbox.create(timeout=60)
    try:
        url = sandbox.download_url("a.txt").split("?")[0] + "?path=a.txt"
        for token in [None, "", "x", other._envd_access_token]:
            headers = {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": "49983"}
            if token is not None:
                headers["X-Access-Token"] = token
            request = urllib.request.Request(url, headers=headers)
            assert raises(urllib.error.HTTPError, lambda: urllib.request.urlopen(request)).code == 401
    finally:
        other.kill()


@check
def the_asynchronous_sdk_works_as_well(sandbox):
    async def story():
        box = await AsyncSandbox.create(timeout=60)
        try:
            assert (await box.commands.run("echo hi")).stdout == "hi\n"
            told, arrived = [], asyncio.Event()

            async def tell(event):
                told.append((event.type, event.name))
                arrived.set()

            await box.files.make_dir("dir")
            watch = await box.files.watch_dir("dir", on_event=tell)
            await box.files.write("dir/file", "x")
            await asyncio.wait_for(arrived.wait(), 10)
            assert told[0] == (FilesystemEventType.CREATE, "file")
            await watch.stop()
            seen = []
            terminal = await box.pty.create(PtySize(rows=24, cols=80), on_data=seen.append)
            await box.pty.send_stdin(terminal.pid, b"echo a$((1+1))b; exit 7\n")
            try:
                await terminal.wait()
                raise AssertionError("it exits with 7")
            except CommandExitException as error:
                assert error.exit_code == 7
            assert b"a2b" in b"".join(seen)
            runs = await asyncio.gather(*(box.commands.run(f"echo {n}") for n in range(20)))
            assert [run.stdout for run in runs] == [f"{n}\n" for n in range(20)]
        finally:
            await box.kill()

    asyncio.run(story())


@check
def what_is_served_on_a_port_is_seen_and_a_closed_one_is_told(sandbox):
    url = sandbox.download_url("x").split("/files")[0]
    headers = {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": "8080"}
    request = urllib.request.Request(url + "/served.txt", headers=headers)
    error = raises(urllib.error.HTTPError, lambda: urllib.request.urlopen(request))
    assert error.code == 502 and b"port is not open" in error.read()
    sandbox.files.write("served.txt", "from inside")
    server = sandbox.commands.run("python3 -m http.server 8080", background=True)

    def seen():
        try:
            return urllib.request.urlopen(request).read()
        except urllib.error.HTTPError:
            return None

    assert until(seen) == b"from inside"
    # The same by name.
    name = f"8080-{sandbox.sandbox_id}.localhost"
    named = urllib.request.Request(url + "/served.txt", headers={"Host": name})
    assert urllib.request.urlopen(named).read() == b"from inside"
    server.kill()


if __name__ == "__main__":
    main = Sandbox.create(
        timeout=600,
        metadata={"suite": "python", "spaced key": "a=b & c"},
        envs={"FROM_CREATE": "yes"},
    )
    try:
        run(main)
    finally:
        main.kill()
