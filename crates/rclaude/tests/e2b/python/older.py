"""What a program written with an older release of E2B's Python SDK does."""

import time

from e2b import CommandExitException, NotFoundException, Sandbox, TimeoutException

from checks import check, raises, run, until


@check
def a_command_runs_and_a_file_comes_back(sandbox):
    result = sandbox.commands.run("echo hi; echo err >&2", envs={"A": "b"})
    assert (result.stdout, result.stderr, result.exit_code) == ("hi\n", "err\n", 0)
    written = sandbox.files.write("dir/a.txt", "content")
    assert written.path == "/home/user/dir/a.txt"
    assert sandbox.files.read("dir/a.txt") == "content"
    assert bytes(sandbox.files.read("dir/a.txt", format="bytes")) == b"content"
    assert [it.name for it in sandbox.files.list("dir")] == ["a.txt"]
    assert sandbox.files.make_dir("dir") is False
    assert sandbox.files.exists("dir") and not sandbox.files.exists("none")
    raises(NotFoundException, lambda: sandbox.files.read("none"))


@check
def commands_fail_wait_and_end_as_they_should(sandbox):
    error = raises(CommandExitException, lambda: sandbox.commands.run("exit 3"))
    assert error.exit_code == 3
    raises(TimeoutException, lambda: sandbox.commands.run("sleep 30", timeout=1))
    handle = sandbox.commands.run("sleep 60", background=True)
    assert handle.pid in [it.pid for it in sandbox.commands.list()]
    assert sandbox.commands.kill(handle.pid) is True
    assert sandbox.commands.kill(handle.pid) is False
    handle = sandbox.commands.run("sleep 0.5; echo late", background=True)
    handle.disconnect()
    assert sandbox.commands.connect(handle.pid).wait().stdout == "late\n"


@check
def a_watch_and_a_terminal_work(sandbox):
    sandbox.files.make_dir("watched")
    watch = sandbox.files.watch_dir("watched")
    sandbox.files.write("watched/file", "x")
    assert "file" in [it.name for it in watch.get_new_events()]
    watch.stop()
    from e2b.sandbox.commands.command_handle import PtySize

    terminal = sandbox.pty.create(PtySize(rows=24, cols=80))
    sandbox.pty.send_stdin(terminal.pid, b"echo a$((1+1))b; exit\n")
    seen = []
    terminal.wait(on_pty=seen.append)
    assert b"a2b" in b"".join(seen)


@check
def a_sandbox_is_listed_found_again_and_ended(sandbox):
    sandbox.set_timeout(200)
    info = sandbox.get_info()
    assert info.sandbox_id.split("-")[0] == sandbox.sandbox_id.split("-")[0]
    assert info.metadata == {"suite": "older"}
    again = Sandbox.connect(sandbox.sandbox_id)
    assert again.commands.run("cat dir/a.txt").stdout == "content"
    assert again.is_running()


if __name__ == "__main__":
    main = Sandbox.create(timeout=300, metadata={"suite": "older"})
    try:
        run(main)
    finally:
        assert main.kill() is True
        until(lambda: not main.is_running())
