//! Attempts to get out, from inside, as the agent and as the sandbox's root.

use rclaude_sandbox::provider::SandboxProvider as _;

use crate::rig::Rig;

const EPERM: &str = "1";
const EACCES: &str = "13";
const ENOSYS: &str = "38";

#[tokio::test]
async fn what_makes_or_breaks_walls_is_refused_to_agent_and_root_alike() {
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    for uid in [1000, 0] {
        for (what, error) in [
            ("mount=/mnt", EPERM),
            ("remount=/usr", EPERM),
            ("remount=/proc/sys", EPERM),
            ("umount=/proc/kcore", EPERM),
            ("umount=/usr", EPERM),
            ("unshare_user", EPERM),
            ("unshare_mount", EPERM),
            ("clone_user", EPERM),
            ("clone3", ENOSYS),
            ("chroot", EPERM),
            ("pivot_root", EPERM),
            ("mknod", ENOSYS),
            ("bpf", EPERM),
            ("perf", EPERM),
            ("keyctl", EPERM),
            ("io_uring", ENOSYS),
            ("userfaultfd", EPERM),
            ("handle", EPERM),
            ("reboot", EPERM),
            ("settime", EPERM),
            ("hostname", EPERM),
            ("module", EPERM),
            ("raw_socket", EPERM),
            ("packet_socket", EPERM),
            ("vsock", EPERM),
            ("tiocsti", ENOSYS),
        ] {
            assert_eq!(rig.attempt(&sandbox, uid, what).await, error, "{what} as {uid}");
        }
    }
    assert_eq!(rig.attempt(&sandbox, 0, "setns").await, EPERM);
    assert_eq!(rig.attempt(&sandbox, 1000, "setuid").await, EPERM);
    rig.provider.destroy(&sandbox).await.unwrap();
    rig.finish().await;
}

#[tokio::test]
async fn the_agent_cannot_reach_into_the_daemon() {
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    assert_eq!(rig.attempt(&sandbox, 1000, "ptrace_init").await, EPERM);
    for path in ["environ", "mem", "root/etc/passwd", "fd/3", "fd/4", "exe", "ns/mnt", "maps"] {
        let met = rig.attempt(&sandbox, 1000, &format!("open_read=/proc/1/{path}")).await;
        assert_eq!(met, EACCES, "{path}");
    }
    let met = rig.attempt(&sandbox, 1000, "open_read=/var/lib/agentd/processes").await;
    assert_eq!(met, EACCES);
    assert_ne!(rig.sh(&sandbox, "kill -9 1").await.status, 0);
    rig.provider.destroy(&sandbox).await.unwrap();
    rig.finish().await;
}

#[tokio::test]
async fn the_hosts_files_kernel_and_devices_are_out_of_reach_even_for_root() {
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    let secret = tempfile::NamedTempFile::new().unwrap();
    let secret = secret.path().to_str().unwrap();
    for uid in [1000, 0] {
        for what in [
            "open_read=/etc/shadow",
            &format!("open_read={secret}"),
            &format!("open_read=/proc/1/root{secret}"),
            "open_read=/proc/kcore/x",
            "open_read=/dev/mem",
            "open_read=/dev/kmsg",
            "open_read=/dev/vda",
            "open_write=/proc/sys/kernel/core_pattern",
            "open_write=/proc/sys/kernel/modprobe",
            "open_write=/proc/sys/net/ipv4/ip_forward",
            "open_write=/sys/kernel/uevent_helper",
            "open_write=/sys/fs/cgroup/cgroup.procs",
            "open_write=/sys/fs/cgroup/release_agent",
            "open_write=/proc/1/exe",
            "open_write=/usr/bin/env",
            "create=/usr/x",
            "create=/usr/lib/x",
            "create=/dev/x",
            "create=/proc/x",
            "create=/proc/sys/x",
        ] {
            let met = rig.attempt(&sandbox, uid, what).await;
            assert!(met != "ok", "{what} as {uid}: {met}");
        }
    }
    let outcome = rig.run(&sandbox, 0, &["sh", "-c", "ls -A /root /home/agent; ls /home; cat /proc/sysrq-trigger /proc/kcore; cat /proc/1/cgroup; ls -A /sys/fs/cgroup; ls -A /workspace"]).await;
    assert!(!outcome.out.contains(".ssh") && !outcome.out.contains("rclaude-"), "{}", outcome.out);
    // Neither the paths of the server nor the sandbox's name on the host are told.
    let mounts = rig.run(&sandbox, 0, &["cat", "/proc/self/mountinfo"]).await.out;
    assert!(!mounts.contains(rig.path().to_str().unwrap()) && !mounts.contains("sbx_"), "{mounts}");
    rig.provider.destroy(&sandbox).await.unwrap();
    rig.finish().await;
}

#[tokio::test]
async fn users_and_privileges_are_what_they_should_be() {
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    let pid = rig.first_process(&sandbox);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    // chown, dac_override, fowner, kill, setgid, setuid.
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        assert_eq!(field(set), "00000000000000eb", "{set}");
    }
    assert_eq!((field("CapInh"), field("CapAmb")), ("0".repeat(16), "0".repeat(16)));
    assert_eq!((field("NoNewPrivs"), field("Seccomp")), ("1".to_owned(), "2".to_owned()));
    let user: u32 = field("Uid").split(' ').next().unwrap().parse().unwrap();
    assert!(user >= 0x1000_0000, "root inside is user {user} outside");
    let inside = rig.sh(&sandbox, "grep -E '^Cap(Eff|Prm|Inh|Amb)' /proc/self/status").await.out;
    assert!(inside.lines().all(|line| line.ends_with("0000000000000000")), "{inside}");
    // A program that would be root by its mode is not.
    let line = "cp /bin/sh /tmp/s; chmod 4755 /tmp/s; ls -n /tmp/s";
    rig.run(&sandbox, 0, &["sh", "-c", line]).await;
    assert_eq!(rig.sh(&sandbox, "/tmp/s -p -c 'id -u'").await.out, "1000");
    // On disk owners are canonical.
    rig.sh(&sandbox, "touch file").await;
    let file = rig.path().join("sandboxes").join(&sandbox.0).join("upper/workspace/file");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(file).unwrap()), 1000);
    rig.provider.destroy(&sandbox).await.unwrap();
    rig.finish().await;
}
