//! What agents use works: interpreters, compilers, version control.

use rclaude_sandbox::provider::SandboxProvider as _;

use crate::rig::Rig;

#[tokio::test]
async fn ordinary_programs_of_the_host_work() {
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    for (program, line, expected) in [
        ("bash", "echo $((6 * 7)) > /tmp/x && cat /tmp/x /dev/null", "42"),
        (
            "git",
            "git init -q . && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x && git log --format=%s",
            "x",
        ),
        (
            "python3",
            "python3 -c 'import subprocess, threading, ssl, socket; print(subprocess.check_output([\"echo\", \"hi\"]).decode(), end=\"\")'",
            "hi",
        ),
        (
            "node",
            "node -e 'const {execSync} = require(\"child_process\"); require(\"fs\").watch(\"/tmp\").close(); new (require(\"worker_threads\").Worker)(\"0\", {eval: true}); console.log(String(execSync(\"echo hi\")).trim())'",
            "hi",
        ),
        ("mkfifo", "mkfifo p && (echo through > p &) && cat p", "through"),
        ("gcc", "printf 'int main(){return 7;}' > a.c && gcc a.c && ./a.out; echo $?", "7"),
        ("gdb", "gdb -q -batch -ex run -ex 'print 6*7' /bin/true 2>&1 | tail -n 1", "$1 = 42"),
        (
            "getent",
            "getent hosts gateway.rclaude | tr -s ' '",
            "100.64.0.1 gateway.rclaude proxy.rclaude",
        ),
        (
            "sh",
            "mkdir /dev/shm/x && [ -w /dev/tty ] && date +%Z && ls /etc/ssl/certs | wc -l | grep -qv '^0$' && echo ok",
            "ok",
        ),
    ] {
        let outcome = rig.sh(&sandbox, line).await;
        assert!(outcome.out.ends_with(expected), "{program}: {outcome:?}");
    }
    rig.provider.destroy(&sandbox).await.unwrap();
    rig.finish().await;
}
