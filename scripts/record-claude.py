#!/usr/bin/env python3
"""Records the real Claude Code binary, for the adapter's golden tests.

usage: record-claude.py --claude BINARY --llm URL --out DIRECTORY [--scratch DIR] [SCENARIO ...]

Each scenario starts the binary as the adapter does (see crates/server/src/agent/claude_code),
talks to it over stdin, and writes DIRECTORY/<scenario>.launch.json, .in.jsonl, .out.jsonl and,
if there was any, .err.txt. URL is an Anthropic Messages endpoint that plays scripts found in the
prompt (`<<SCRIPT [[step],[step]] SCRIPT>>`). What depends on the machine is normalised on the
way out; crates/server/tests/recordings/claude_code/README.md says how.
"""
import argparse, base64, json, os, pathlib, queue, re, shutil, signal, subprocess, sys, threading, time

TIMEOUT = 60
MODEL = "claude-opus-5-5"


def script(*steps, say="go"):
    return say + " <<SCRIPT " + json.dumps(list(steps)) + " SCRIPT>>"


def uuid(n):
    """The ids the scenarios use: readable, and valid as a UUIDv7."""
    return f"01900000-0000-7000-8000-{n:012x}"


class Claude:
    """One process of the binary."""

    def __init__(self, o, name, session, resume=False, mode="default", args=(), env=(), token="tok"):
        self.o, self.name, self.sent, self.lines, self.raw = o, name, [], queue.Queue(), []
        self.seen, self.req = [], 0
        base = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(o.home), "USER": "agent", "SHELL": "/bin/bash",
            "LANG": "C.UTF-8", "TERM": "xterm-256color", "ANTHROPIC_BASE_URL": o.llm,
            "ANTHROPIC_AUTH_TOKEN": token, "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1", "CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS": "1",
            "CLAUDE_CODE_RESUME_INTERRUPTED_TURN": "1", "CLAUDE_CODE_MAX_RETRIES": "1",
            "IS_SANDBOX": "1",
        }
        base.update(env)
        argv = [o.claude, "-p", "--input-format", "stream-json", "--output-format", "stream-json",
                "--verbose", "--include-partial-messages", "--forward-subagent-text",
                "--permission-prompt-tool", "stdio", "--allow-dangerously-skip-permissions",
                "--permission-mode", mode, "--model", MODEL]
        argv += ["--resume" if resume else "--session-id", session, *args]
        self.launch = {"argv": ["/opt/rclaude/agents/claude-code/claude", *argv[1:]], "env": base}
        if os.getuid() == 0:
            argv = ["setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups", *argv]
        self.p = subprocess.Popen(argv, cwd=o.work, env=base, stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  start_new_session=True)
        threading.Thread(target=self._out, daemon=True).start()
        self.err = []
        self.errt = threading.Thread(target=lambda: self.err.extend(self.p.stderr), daemon=True)
        self.errt.start()

    def _out(self):
        for line in self.p.stdout:
            self.raw.append(line)
            self.lines.put(json.loads(line))
        self.lines.put(None)

    def send(self, value):
        line = json.dumps(value, separators=(",", ":")) + "\n"
        self.sent.append(line)
        self.p.stdin.write(line.encode())
        self.p.stdin.flush()

    def prompt(self, text, n, **extra):
        self.send({"type": "user", "message": {"role": "user", "content": text},
                   "uuid": uuid(n), **extra})

    def control(self, subtype, **fields):
        self.req += 1
        rid = f"rclaude-{self.req}"
        self.send({"type": "control_request", "request_id": rid,
                   "request": {"subtype": subtype, **fields}})
        return self.wait(lambda e: e.get("type") == "control_response"
                         and e["response"]["request_id"] == rid)

    def answer(self, ask, response):
        self.send({"type": "control_response", "response": {
            "subtype": "success", "request_id": ask["request_id"], "response": response}})

    def wait(self, want):
        end = time.time() + TIMEOUT
        while True:
            e = self.lines.get(timeout=max(0.1, end - time.time()))
            if e is None:
                raise SystemExit(f"{self.name}: ended early: {b''.join(self.err)!r}")
            self.seen.append(e)
            if want(e):
                return e

    def ask(self):
        return self.wait(lambda e: e.get("type") == "control_request")

    def idle(self):
        return self.wait(lambda e: e.get("subtype") == "session_state_changed"
                         and e.get("state") == "idle")

    def tool_starts(self):
        return self.wait(lambda e: e.get("type") == "assistant"
                         and e["message"]["content"][0]["type"] == "tool_use")

    def end(self, kill=False):
        if kill:
            os.killpg(self.p.pid, signal.SIGKILL)
        else:
            self.p.stdin.close()
        code = self.p.wait(TIMEOUT)
        self.errt.join(5)
        time.sleep(0.1)
        return code

    def save(self, name=None):
        name = name or self.name
        out = self.o.out
        (out / f"{name}.out.jsonl").write_text("".join(self.o.clean(l.decode()) for l in self.raw))
        (out / f"{name}.in.jsonl").write_text("".join(self.o.clean(l) for l in self.sent))
        (out / f"{name}.launch.json").write_text(self.o.clean(json.dumps(self.launch)))
        err = self.o.clean(b"".join(self.err).decode())
        if err:
            (out / f"{name}.err.txt").write_text(err)


SCENARIOS = {}


def scenario(f):
    SCENARIOS[f.__name__.replace("_", "-")] = f
    return f


def one_turn(o, name, text, answers=(), mode="default", **kw):
    c = Claude(o, name, uuid(o.next()), mode=mode, **kw)
    c.prompt(text, 1)
    for a in answers:
        ask = c.ask()
        c.answer(ask, a(ask["request"]) if callable(a) else a)
    c.idle()
    c.end()
    c.save()
    return c


def allow(r):
    return {"behavior": "allow", "updatedInput": r["input"]}


@scenario
def simple_answer(o):
    one_turn(o, "simple-answer", script(
        [{"think": "The user greets me."}, {"text": "Hello there, nice to meet you.", "slow": [4, 0.02]}]))


@scenario
def tools(o):
    one_turn(o, "tools", script(
        [{"text": "I will write a file."},
         {"tool": "Write", "input": {"file_path": str(o.work / "a.txt"), "content": "one\ntwo\nthree\n"}}],
        [{"tool": "Edit", "input": {"file_path": str(o.work / "a.txt"), "old_string": "two", "new_string": "2"}}],
        [{"tool": "Read", "input": {"file_path": str(o.work / "a.txt")}},
         {"tool": "Bash", "input": {"command": "cat a.txt; echo oops >&2", "description": "Show the file"}}],
        [{"tool": "Bash", "input": {"command": "exit 3"}}],
        [{"tool": "Grep", "input": {"pattern": "three"}}, {"tool": "Glob", "input": {"pattern": "*.txt"}}],
        [{"tool": "Write", "input": {"file_path": str(o.work / "a.txt"), "content": "all new\n"}}],
        [{"text": "Done."}]), mode="bypassPermissions")


@scenario
def todo(o):
    one_turn(o, "todo", script(
        [{"tool": "TaskCreate", "input": {"subject": "Look", "description": "Look first"}}],
        [{"tool": "TaskCreate", "input": {"subject": "Leap", "description": "Leap later"}}],
        [{"tool": "TaskUpdate", "input": {"taskId": "1", "status": "completed"}},
         {"tool": "TaskUpdate", "input": {"taskId": "2", "status": "in_progress", "subject": "Leap far"}}],
        [{"tool": "TaskUpdate", "input": {"taskId": "99", "status": "completed"}}],
        [{"tool": "TaskUpdate", "input": {"taskId": "1", "status": "deleted"}}],
        [{"tool": "TaskList", "input": {}}],
        [{"text": "Listed."}]), mode="bypassPermissions",
        env=[("CLAUDE_CODE_ENABLE_TODO_TOOLS", "1")])


@scenario
def todo_write(o):
    one_turn(o, "todo-write", script(
        [{"tool": "TodoWrite", "input": {"todos": [
            {"content": "Look", "status": "completed", "activeForm": "Looking"},
            {"content": "Leap", "status": "in_progress", "activeForm": "Leaping"}]}}],
        [{"text": "Listed."}]), mode="bypassPermissions",
        env=[("CLAUDE_CODE_ENABLE_TODO_TOOLS", "1"), ("CLAUDE_CODE_ENABLE_TASKS", "0")])


TOUCH = [{"tool": "Bash", "input": {"command": "touch asked.txt", "description": "Make a file"}}]


@scenario
def ask_allow(o):
    one_turn(o, "ask-allow", script(TOUCH, [{"text": "Made."}]), [allow])


@scenario
def ask_deny(o):
    one_turn(o, "ask-deny", script(TOUCH, [{"text": "Very well."}]),
             [{"behavior": "deny", "message": "Not today", "interrupt": False}])


@scenario
def ask_deny_interrupt(o):
    one_turn(o, "ask-deny-interrupt", script(TOUCH, [{"text": "Never said."}]),
             [{"behavior": "deny", "message": "Stop it all", "interrupt": True}])


@scenario
def ask_edit(o):
    one_turn(o, "ask-edit", script(TOUCH, [{"text": "Made."}]),
             [lambda r: {"behavior": "allow", "updatedInput": {"command": "touch other.txt"}}])


def always(r):
    """As the adapter answers "always": see `remembered` in input.rs."""
    rules = [s for s in r["permission_suggestions"] if s["type"] == "addRules"]
    return {**allow(r), "updatedPermissions": [
        {**s, "destination": "userSettings"} if "destination" in s and s["type"] == "addRules" else s
        for s in rules or r["permission_suggestions"]]}


@scenario
def ask_always(o):
    unasked = {"tool": "Bash", "input": {"command": "touch unasked.txt"}}
    c = one_turn(o, "ask-always", script(
        TOUCH, TOUCH, [unasked],
        [{"tool": "Write", "input": {"file_path": str(o.work / "b.txt"), "content": "b"}}],
        [{"tool": "Write", "input": {"file_path": str(o.work / "c.txt"), "content": "c"}}],
        [{"text": "Made."}]),
        [always, allow, always])
    c = Claude(o, "ask-always-resumed", uuid(o.count), resume=True)
    c.prompt(script(TOUCH, [{"text": "Made again."}]), 2)
    c.idle()
    c.end()
    c.save()


@scenario
def question(o):
    one_turn(o, "question", script(
        [{"tool": "AskUserQuestion", "input": {"questions": [
            {"question": "Which colour?", "header": "Colour", "multiSelect": False, "options": [
                {"label": "Red", "description": "like fire"}, {"label": "Blue", "description": "like sea"}]},
            {"question": "Which sizes?", "header": "Size", "multiSelect": True, "options": [
                {"label": "S", "description": "small"}, {"label": "L", "description": "large"}]}]}}],
        [{"text": "Noted."}]),
        [lambda r: {"behavior": "allow", "updatedInput": {
            **r["input"], "answers": {"Which colour?": "Blue", "Which sizes?": "S, L"}}}])


@scenario
def plan(o):
    one_turn(o, "plan", script(
        [{"tool": "ExitPlanMode", "input": {"plan": "# Plan\n1. Look\n2. Leap\n"}}],
        [{"text": "Off I go."}]), [allow], mode="plan")


@scenario
def plan_denied(o):
    one_turn(o, "plan-denied", script(
        [{"tool": "ExitPlanMode", "input": {"plan": "# Plan\n1. Leap\n"}}],
        [{"text": "I will think again."}]),
        [{"behavior": "deny", "message": "Look first", "interrupt": False}], mode="plan")


@scenario
def interrupt_streaming(o):
    c = Claude(o, "interrupt-streaming", uuid(o.next()))
    c.prompt(script([{"text": "one two three four five six seven eight", "slow": [20, 0.2]}]), 1)
    for _ in range(3):
        c.wait(lambda e: e.get("type") == "stream_event"
               and e["event"]["type"] == "content_block_delta")
    c.control("interrupt")
    c.idle()
    c.prompt(script([{"text": "Still here."}]), 2)
    c.idle()
    c.control("interrupt")  # with nothing under way
    c.end()
    c.save()


@scenario
def interrupt_tool(o):
    c = Claude(o, "interrupt-tool", uuid(o.next()), mode="bypassPermissions")
    c.prompt(script([{"tool": "Bash", "input": {
        "command": "python3 -c 'import time; time.sleep(25)'"}}], [{"text": "Never said."}]), 1)
    c.tool_starts()
    time.sleep(1)
    c.control("interrupt")
    c.idle()
    c.end()
    c.save()


@scenario
def interrupt_asking(o):
    c = Claude(o, "interrupt-asking", uuid(o.next()))
    c.prompt(script(TOUCH, [{"text": "Never said."}]), 1)
    c.ask()
    c.control("interrupt")
    c.idle()
    c.end()
    c.save()


@scenario
def steer(o):
    c = Claude(o, "steer", uuid(o.next()), mode="bypassPermissions")
    c.prompt(script([{"tool": "Bash", "input": {
        "command": "python3 -c 'import time; time.sleep(2)'"}}], [{"text": "Turned."}]), 1)
    c.tool_starts()
    c.prompt("turn left, please", 2)
    c.idle()
    c.end()
    c.save()


@scenario
def queued(o):
    """A prompt sent while the model answers without tools: it becomes a turn of its own."""
    c = Claude(o, "queued", uuid(o.next()))
    c.prompt(script([{"text": "first answer of several words", "slow": [6, 0.2]}]), 1)
    c.wait(lambda e: e.get("type") == "stream_event"
           and e["event"]["type"] == "content_block_delta")
    c.prompt(script([{"text": "second answer"}]), 2)
    c.idle()
    c.end()
    c.save()


@scenario
def interrupt_queued(o):
    """What becomes of a prompt that waits when the turn before it is stopped."""
    c = Claude(o, "interrupt-queued", uuid(o.next()))
    c.prompt(script([{"text": "one two three four five six seven eight", "slow": [20, 0.2]}]), 1)
    c.wait(lambda e: e.get("type") == "stream_event"
           and e["event"]["type"] == "content_block_delta")
    c.prompt(script([{"text": "second answer"}]), 2)
    time.sleep(0.5)
    c.control("interrupt")
    c.idle()
    c.end()
    c.save()


@scenario
def late_answer(o):
    """An answer to something no longer asked."""
    c = Claude(o, "late-answer", uuid(o.next()))
    c.prompt(script(TOUCH, [{"text": "Never said."}]), 1)
    ask = c.ask()
    c.control("interrupt")
    c.idle()
    c.answer(ask, allow(ask["request"]))
    c.prompt(script([{"text": "Still here."}]), 2)
    c.idle()
    c.end()
    c.save()


@scenario
def settings_live(o):
    c = Claude(o, "settings-live", uuid(o.next()))
    c.control("initialize")
    c.prompt(script([{"text": "One."}]), 1)
    c.idle()
    c.control("set_model", model="claude-sonnet-5")
    for mode in ("acceptEdits", "bypassPermissions", "plan", "dontAsk", "default", "nonsense"):
        c.control("set_permission_mode", mode=mode)
    c.control("set_permission_mode", mode="bypassPermissions")
    c.control("no_such_thing")
    c.prompt(script(TOUCH, [{"text": "Two."}]), 2)
    c.idle()
    c.control("end_session")
    code = c.p.wait(TIMEOUT)
    print("end_session: exit", code, file=sys.stderr)
    time.sleep(0.1)
    c.save()


@scenario
def settings_mid_turn(o):
    c = Claude(o, "settings-mid-turn", uuid(o.next()))
    c.prompt(script(TOUCH, TOUCH, [{"text": "Two."}]), 1)
    ask = c.ask()
    c.control("set_permission_mode", mode="bypassPermissions")
    c.control("set_model", model="claude-sonnet-5")
    c.answer(ask, allow(ask["request"]))
    c.idle()
    c.end()
    c.save()


@scenario
def resume(o):
    s = uuid(o.next())
    c = Claude(o, "resume-before", s)
    c.prompt(script([{"text": "Before."}]), 1)
    c.idle()
    c.end()
    c.save()
    c = Claude(o, "resume-after", s, resume=True)
    c.prompt(script([{"text": "After."}]), 2)
    c.idle()
    c.end()
    c.save()


@scenario
def resume_killed_in_tool(o):
    s = uuid(o.next())
    c = Claude(o, "resume-killed-before", s, mode="bypassPermissions")
    c.prompt(script([{"text": "Working."}, {"tool": "Bash", "input": {
        "command": "test -e ran || { touch ran; python3 -c 'import time; time.sleep(25)'; }"}}],
        [{"text": "Finished."}]), 1)
    c.tool_starts()
    time.sleep(1.5)
    c.end(kill=True)
    c.save()
    c = Claude(o, "resume-killed-after", s, resume=True, mode="bypassPermissions")
    c.idle()
    c.prompt(script([{"text": "And on."}]), 2)
    c.idle()
    c.end()
    c.save()


@scenario
def resume_killed_asking(o):
    s = uuid(o.next())
    c = Claude(o, "resume-asking-before", s)
    c.prompt(script(TOUCH, [{"text": "Finished."}]), 1)
    c.ask()
    time.sleep(1.5)
    c.end(kill=True)
    c.save()
    c = Claude(o, "resume-asking-after", s, resume=True)
    ask = c.ask()
    c.answer(ask, allow(ask["request"]))
    c.idle()
    c.end()
    c.save()


@scenario
def resume_unknown(o):
    c = Claude(o, "resume-unknown", uuid(0xdead), resume=True)
    c.p.wait(TIMEOUT)
    time.sleep(0.3)
    c.save()


@scenario
def session_in_use(o):
    s = uuid(o.next())
    c = Claude(o, "x", s)
    c.prompt(script([{"text": "Before."}]), 1)
    c.idle()
    c.end()
    c = Claude(o, "session-in-use", s)
    c.p.wait(TIMEOUT)
    time.sleep(0.3)
    c.save()


@scenario
def background(o):
    c = Claude(o, "background", uuid(o.next()), mode="bypassPermissions")
    c.prompt(script([{"tool": "Bash", "input": {
        "command": "python3 -c 'import time; time.sleep(2); print(42)'", "run_in_background": True}}],
        [{"text": "Started; waiting."}], [{"text": "It is done."}], [{"text": "Truly."}]), 1)
    c.idle()
    c.wait(lambda e: e.get("type") == "assistant")
    c.idle()
    c.end()
    c.save()


def nested(*steps):
    return ("look <<SCRIPT " + json.dumps(list(steps)) + " SCRIPT>>")


def delegate(inner, *after, **options):
    """A script whose first step gives a sub-agent a script of its own."""
    escape = lambda text: text.replace("<", "\\u003c").replace(">", "\\u003e")
    outer = json.dumps([[{"tool": "Task", "input": {
        "description": "Look around", "prompt": "@@", "subagent_type": "general-purpose",
        **options}}], *after])
    return ("go <<SCRIPT "
            + outer.replace("@@", escape(json.dumps(nested(*inner))[1:-1])) + " SCRIPT>>")


INNER = [[{"text": "Looking."}, {"tool": "Bash", "input": {"command": "touch inner.txt"}}],
         [{"text": "Inner answer."}]]


@scenario
def sub_agent(o):
    one_turn(o, "sub-agent", delegate(INNER, [{"text": "Outer answer."}], run_in_background=False),
             mode="bypassPermissions")


@scenario
def sub_agent_asks(o):
    one_turn(o, "sub-agent-asks",
             delegate(INNER, [{"text": "Outer answer."}], run_in_background=False), [allow])


@scenario
def sub_agent_background(o):
    c = Claude(o, "sub-agent-background", uuid(o.next()), mode="bypassPermissions")
    inner = [[{"tool": "Bash", "input": {"command": "python3 -c 'import time; time.sleep(2)'"}}],
             [{"text": "Inner answer."}]]
    c.prompt(delegate(inner, [{"text": "Delegated."}], [{"text": "It came back."}]), 1)
    for _ in range(2):  # `idle` comes after the second result alone
        c.wait(lambda e: e.get("type") == "result")
    c.idle()
    c.end()
    c.save()


@scenario
def picture(o):
    png = ("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
           "rkJggg==")
    (o.work / "dot.png").write_bytes(base64.b64decode(png))
    one_turn(o, "picture", script(
        [{"tool": "Read", "input": {"file_path": str(o.work / "dot.png")}}], [{"text": "A dot."}]))


@scenario
def long_output(o):
    one_turn(o, "long-output", script(
        [{"tool": "Bash", "input": {"command": "seq 1 20000"}}], [{"text": "Many."}]),
        mode="bypassPermissions")


@scenario
def clear(o):
    c = Claude(o, "clear", uuid(o.next()))
    c.prompt(script([{"text": "Before."}]), 1)
    c.idle()
    c.prompt("/clear", 2)
    c.idle()
    c.prompt(script([{"text": "After."}]), 3)
    c.idle()
    c.end()
    c.save()


@scenario
def api_errors(o):
    for status, kind, message in [
        (400, "invalid_request_error", "messages: bad"), (401, "authentication_error", "invalid bearer token"),
        (402, "billing_error", "This session's budget of $1.00 is spent"),
        (403, "permission_error", "Not allowed here"), (413, "request_too_large", "too big"),
        (429, "rate_limit_error", "Slow down"), (500, "api_error", "Internal server error"),
        (529, "overloaded_error", "Overloaded"),
    ]:
        one_turn(o, f"api-{status}", script([{"error": status, "type": kind, "message": message,
                 "headers": {} if status == 429 else {"x-should-retry": "false"}}]))


@scenario
def sse_error(o):
    one_turn(o, "sse-error", script(
        [{"text": "Half an ans"}, {"sse_error": "overloaded_error"}], [{"text": "wer, whole."}], [{"text": "more"}]))


@scenario
def cut_stream(o):
    one_turn(o, "cut-stream", script([{"text": "Half an ans"}, {"cut": True}]))


@scenario
def refused(o):
    """Nobody listens at the gateway's address."""
    one_turn(o, "refused", script([{"text": "x"}]), env=[("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")])


@scenario
def not_logged_in(o):
    c = Claude(o, "not-logged-in", uuid(o.next()), token="")
    c.prompt("hello", 1)
    c.end()
    c.save()


@scenario
def bad_input(o):
    """Lines the binary cannot read."""
    c = Claude(o, "bad-input", uuid(o.next()))
    c.p.stdin.write(b"this is not json\n")
    try:
        c.p.stdin.flush()
        c.p.wait(5)
    except (subprocess.TimeoutExpired, BrokenPipeError):
        c.end()
    print("bad input: exit", c.p.returncode, file=sys.stderr)
    c.save()


@scenario
def slash(o):
    c = Claude(o, "slash", uuid(o.next()))
    c.prompt("/context", 1)
    c.idle()
    c.prompt("/compact", 2)
    c.idle()
    c.prompt(script([{"text": "Much talk."}]), 3)
    c.idle()
    c.prompt("/compact", 4)
    c.idle()
    c.prompt("/no-such-command", 5)
    c.idle()
    c.end()
    c.save()


@scenario
def same_prompt_twice(o):
    """The same uuid sent twice: does the binary see it?"""
    c = Claude(o, "same-prompt-twice", uuid(o.next()))
    text = script([{"text": "Once."}])
    c.prompt(text, 1)
    c.idle()
    c.prompt(text, 1)
    try:
        global TIMEOUT
        TIMEOUT = 4
        c.idle()
    except queue.Empty:
        print("same prompt twice: the second was dropped", file=sys.stderr)
    TIMEOUT = 60
    c.end()
    c.save()


@scenario
def resume_resent(o):
    """A prompt killed in mid tool is sent again with its own uuid after the resume."""
    s = uuid(o.next())
    text = script([{"text": "Working."}, {"tool": "Bash", "input": {
        "command": "test -e ran || { touch ran; python3 -c 'import time; time.sleep(25)'; }"}}],
        [{"text": "Finished."}])
    c = Claude(o, "x", s, mode="bypassPermissions")
    c.prompt(text, 1)
    c.tool_starts()
    time.sleep(1.5)
    c.end(kill=True)
    c = Claude(o, "resume-resent", s, resume=True, mode="bypassPermissions")
    c.prompt(text, 1)
    c.idle()
    try:
        while True:
            c.seen.append(c.lines.get(timeout=3))
    except queue.Empty:
        pass
    c.end()
    c.save()


@scenario
def resume_done_resent(o):
    """A prompt that was answered is sent again with its own uuid after a resume."""
    s = uuid(o.next())
    c = Claude(o, "x", s)
    c.prompt(script([{"text": "Before."}]), 1)
    c.idle()
    c.end()
    c = Claude(o, "resume-done-resent", s, resume=True)
    time.sleep(2)
    print("resumed and not prompted:", c.lines.qsize(), "lines", file=sys.stderr)
    c.prompt(script([{"text": "Before."}]), 1)
    try:
        while True:
            c.seen.append(c.lines.get(timeout=3))
    except queue.Empty:
        pass
    c.end()
    c.save()


@scenario
def dont_ask(o):
    one_turn(o, "dont-ask", script(TOUCH, [{"text": "So be it."}]), mode="dontAsk")


@scenario
def refusal(o):
    one_turn(o, "refusal", script([{"text": "I would rather not."}, {"stop": "refusal"}]))


@scenario
def too_long(o):
    one_turn(o, "too-long", script([{"error": 400, "type": "invalid_request_error",
             "message": "prompt is too long: 300000 tokens > 200000 maximum"}]))


class Options:
    def __init__(self, a):
        self.claude, self.llm = a.claude, a.llm
        self.out = pathlib.Path(a.out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.scratch = pathlib.Path(a.scratch)
        self.home, self.work = self.scratch / "home", self.scratch / "work"
        self.count = 0x100

    def next(self):
        self.count += 1
        return self.count

    def fresh(self):
        shutil.rmtree(self.scratch, ignore_errors=True)
        for d in (self.scratch, self.home, self.work):
            d.mkdir(parents=True)
            if os.getuid() == 0:
                os.chown(d, 1000, 1000)
        self.ids, self.made = {}, {}

    def number(self, m):
        made = self.made.setdefault(m[0], len(self.made) + 1)
        return f"{m[1]}_{made:04d}"

    def renamed(self, m):
        return self.ids.setdefault(m[0], f"00000000-0000-4000-8000-{len(self.ids) + 1:012x}")

    def clean(self, text):
        """Takes the machine out of one line; see README.md beside the recordings."""
        text = re.sub(r"(msg|toolu|req)_emu\d+", self.number, text)
        text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}",
                      self.renamed, text)
        dashed = lambda p: re.sub(r"[^A-Za-z0-9]", "-", str(p))
        for path, name in ((self.work, "/workspace"), (self.home, "/home/agent")):
            text = text.replace(str(path), name).replace(dashed(path), dashed(name))
        text = text.replace(self.llm, "http://gateway.rclaude")
        text = text.replace(self.llm.split("://")[1], "gateway.rclaude")
        text = re.sub(r"/tmp/claude-\d+", "/tmp/claude-1000", text)
        text = re.sub(r"/tmp/cc-socks/\d+", "/tmp/cc-socks/1", text)
        try:
            value = json.loads(text)
        except ValueError:
            return text
        text = json.dumps(self.walk(value), separators=(",", ":"), ensure_ascii=False) + "\n"
        return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", "2026-01-01T00:00:00.000Z", text)

    LONG = {"tools", "slash_commands", "agents", "skills", "commands", "models", "capabilities"}

    def walk(self, v, key=None):
        if isinstance(v, dict):
            return {k: self.walk(x, k) for k, x in v.items()}
        if isinstance(v, list):
            if key in self.LONG and len(v) > 4:
                v = v[:4]
            return [self.walk(x) for x in v]
        if key and key.endswith(("_ms", "_seconds", "_time")) or key == "pid":
            return 1 if isinstance(v, (int, float)) else v
        return v


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--claude", required=True)
    p.add_argument("--llm", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--scratch", default="/tmp/record-claude")
    p.add_argument("scenarios", nargs="*")
    a = p.parse_args()
    o = Options(a)
    for name in a.scenarios or SCENARIOS:
        o.fresh()
        try:
            SCENARIOS[name](o)
            print("recorded", name, file=sys.stderr)
        except (SystemExit, queue.Empty) as e:
            print("FAILED", name, repr(e), file=sys.stderr)


main()
