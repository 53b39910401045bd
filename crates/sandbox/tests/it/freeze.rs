//! Pauses that keep memory: processes stand still where they are, and go on or end from there.
#![expect(clippy::unwrap_used, reason = "what breaks in a helper breaks the test that called")]

use std::{path::PathBuf, time::Duration};

use rclaude_sandbox::provider::{
    ErrorClass, Kept, Observed, Pausing as _, ProviderError, SandboxProvider as _, SandboxRef,
    SandboxSpec,
};
use rclaude_types::Resources;

use crate::rig::{Rig, cgroups_of, kill, spec, supervisor_of};

/// Which of the host's freezers a test is about.
const VERSIONS: [u8; 2] = [2, 1];

/// A process counts as standing still when it is about to give up the processor, and the kernel's
/// last step there is still accounted for. In microseconds.
const LAST_STEP: u64 = 1000;

/// A sandbox in which a process counts: the length of a file, seen from the host.
struct Counter {
    sandbox: SandboxRef,
    file: PathBuf,
}

impl Counter {
    /// `None` where the host has no freezer of that version.
    async fn start(rig: &Rig, version: u8) -> Option<Self> {
        let sandbox = rig.sandbox().await;
        if !rig.freeze_by_version(&sandbox, version) {
            rig.provider.destroy(&sandbox).await.unwrap();
            return None;
        }
        rig.sh(&sandbox, "while :; do echo >> n; done >/dev/null 2>&1 &").await;
        let file = rig.path().join("sandboxes").join(&sandbox.0).join("upper/workspace/n");
        let counter = Self { sandbox, file };
        counter.advances_from(0).await;
        Some(counter)
    }

    fn count(&self) -> u64 {
        self.file.metadata().map_or(0, |file| file.len())
    }

    async fn advances_from(&self, count: u64) {
        while self.count() <= count {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// The text of an error with its causes.
fn told(error: &ProviderError) -> String {
    let cause = error.source.as_ref().map(ToString::to_string).unwrap_or_default();
    format!("{error}: {cause}")
}

#[tokio::test]
async fn a_frozen_sandbox_stands_still_uses_no_processor_and_goes_on() {
    let rig = Rig::new().await;
    for version in VERSIONS {
        let Some(counter) = Counter::start(&rig, version).await else { continue };
        let sandbox = &counter.sandbox;
        for _ in 0..2 {
            rig.provider.freeze(sandbox).await.unwrap();
            assert_eq!(rig.provider.inspect(sandbox).await.unwrap(), Observed::Paused);
        }
        let (count, used) = (counter.count(), rig.provider.stats(sandbox).await.unwrap());
        let Err(error) = rig.provider.dial(sandbox).await else { panic!("it cannot answer") };
        assert!(told(&error).contains("resume it first"), "{}", told(&error));
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(counter.count(), count);
        let more = rig.provider.stats(sandbox).await.unwrap().cpu_micros - used.cpu_micros;
        assert!(more < LAST_STEP, "{more} us");
        assert_eq!(rig.provider.list().await.unwrap()[0].2, Observed::Paused);
        for _ in 0..2 {
            assert_eq!(rig.provider.resume(sandbox).await.unwrap(), *sandbox);
            assert_eq!(rig.provider.inspect(sandbox).await.unwrap(), Observed::Running);
        }
        counter.advances_from(count).await;
        assert_eq!(rig.sh(sandbox, "echo alive").await.out, "alive");
        rig.provider.destroy(sandbox).await.unwrap();
    }
    rig.finish().await;
}

#[tokio::test]
async fn stopping_a_frozen_sandbox_lets_none_of_its_processes_take_another_step() {
    let rig = Rig::new().await;
    for version in VERSIONS {
        let Some(counter) = Counter::start(&rig, version).await else { continue };
        let sandbox = &counter.sandbox;
        rig.provider.freeze(sandbox).await.unwrap();
        let count = counter.count();
        rig.provider.stop(sandbox).await.unwrap();
        assert_eq!(rig.provider.inspect(sandbox).await.unwrap(), Observed::Stopped);
        assert_eq!(counter.count(), count);
        rig.provider.stop(sandbox).await.unwrap();
        let error = rig.provider.freeze(sandbox).await.unwrap_err();
        assert!(matches!(error.class, ErrorClass::Rejected(_)), "{error}");
        rig.provider.resume(sandbox).await.unwrap();
        let kept = rig.sh(sandbox, "stat -c %s n").await.out;
        assert_eq!(kept, count.to_string());
        rig.provider.destroy(sandbox).await.unwrap();
    }
    rig.finish().await;
}

#[tokio::test]
async fn a_frozen_sandbox_can_be_destroyed() {
    let rig = Rig::new().await;
    for version in VERSIONS {
        let Some(Counter { sandbox, .. }) = Counter::start(&rig, version).await else { continue };
        rig.provider.freeze(&sandbox).await.unwrap();
        rig.provider.destroy(&sandbox).await.unwrap();
        assert_eq!(rig.provider.inspect(&sandbox).await.unwrap(), Observed::Absent);
        assert_eq!(cgroups_of(&sandbox.0), 0);
    }
    rig.finish().await;
}

#[tokio::test]
async fn another_server_and_another_supervisor_find_it_frozen() {
    let rig = Rig::new().await;
    for version in VERSIONS {
        let Some(counter) = Counter::start(&rig, version).await else { continue };
        let sandbox = &counter.sandbox;
        rig.provider.freeze(sandbox).await.unwrap();
        let count = counter.count();
        kill(supervisor_of(&rig.path())).await;
        let later = rig.reopened().await;
        assert_eq!(later.inspect(sandbox).await.unwrap(), Observed::Paused);
        later.freeze(sandbox).await.unwrap();
        assert_eq!(counter.count(), count);
        later.resume(sandbox).await.unwrap();
        counter.advances_from(count).await;
        // This time the next supervisor is there before the thaw, and ends what it found frozen.
        later.freeze(sandbox).await.unwrap();
        later.stop(sandbox).await.unwrap();
        assert_eq!(later.inspect(sandbox).await.unwrap(), Observed::Stopped);
        later.resume(sandbox).await.unwrap();
        later.freeze(sandbox).await.unwrap();
        kill(supervisor_of(&rig.path())).await;
        later.destroy(sandbox).await.unwrap();
        assert_eq!(cgroups_of(&sandbox.0), 0);
    }
    rig.finish().await;
}

#[tokio::test]
async fn a_sandbox_killed_while_frozen_starts_again() {
    let rig = Rig::new().await;
    for version in VERSIONS {
        let Some(Counter { sandbox, .. }) = Counter::start(&rig, version).await else { continue };
        rig.provider.freeze(&sandbox).await.unwrap();
        let process = rustix::process::Pid::from_raw(rig.first_process(&sandbox)).unwrap();
        rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
        // In version 2 it dies at once, and its cgroup stays frozen; in version 1 it dies when it
        // is let go on.
        if version == 1 {
            assert_eq!(rig.provider.inspect(&sandbox).await.unwrap(), Observed::Paused);
            rig.provider.resume(&sandbox).await.unwrap();
        }
        while rig.provider.inspect(&sandbox).await.unwrap() != Observed::Stopped {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        rig.provider.resume(&sandbox).await.unwrap();
        assert_eq!(rig.sh(&sandbox, "echo alive").await.out, "alive");
        assert_eq!(rig.provider.inspect(&sandbox).await.unwrap(), Observed::Running);
        rig.provider.destroy(&sandbox).await.unwrap();
    }
    rig.finish().await;
}

#[tokio::test]
async fn processes_that_fork_all_the_time_stand_still_too() {
    let rig = Rig::new().await;
    for version in VERSIONS {
        let resources = Resources { cpu_millis: 2000, memory_mib: 256, pids: 100 };
        let spec = SandboxSpec { resources, ..spec() };
        let sandbox = rig.provider.create(&spec).await.unwrap();
        if rig.freeze_by_version(&sandbox, version) {
            let line = "for i in 1 2 3 4; do while :; do (:) & (:); done >/dev/null 2>&1 & done";
            rig.sh(&sandbox, line).await;
            for _ in 0..10 {
                rig.provider.freeze(&sandbox).await.unwrap();
                let before = rig.provider.stats(&sandbox).await.unwrap();
                tokio::time::sleep(Duration::from_millis(10)).await;
                let after = rig.provider.stats(&sandbox).await.unwrap();
                assert_eq!(after.pids, before.pids);
                assert!(after.cpu_micros - before.cpu_micros < LAST_STEP, "{before:?} {after:?}");
                rig.provider.resume(&sandbox).await.unwrap();
            }
        }
        rig.provider.destroy(&sandbox).await.unwrap();
    }
    rig.finish().await;
}

#[tokio::test]
async fn fifty_at_once_leave_one_answer() {
    let rig = Rig::new().await;
    let Some(counter) = Counter::start(&rig, 2).await else { return rig.finish().await };
    let sandbox = &counter.sandbox;
    let provider = &rig.provider;
    let calls = (0..50).map(|number| async move {
        if number % 2 == 0 {
            provider.freeze(sandbox).await
        } else {
            provider.resume(sandbox).await.map(drop)
        }
    });
    for done in futures::future::join_all(calls).await {
        done.unwrap();
    }
    let (seen, count) = (rig.provider.inspect(sandbox).await.unwrap(), counter.count());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(seen == Observed::Paused, counter.count() == count, "{seen:?}");
    rig.provider.resume(sandbox).await.unwrap();
    counter.advances_from(count).await;
    rig.provider.freeze(sandbox).await.unwrap();
    assert_eq!(rig.provider.inspect(sandbox).await.unwrap(), Observed::Paused);
    rig.provider.destroy(sandbox).await.unwrap();
    rig.finish().await;
}

#[tokio::test]
async fn memory_is_given_back_only_to_swap_and_only_of_the_frozen() {
    let rig = Rig::new().await;
    assert_eq!(rig.provider.keeps(), Kept::Memory);
    let sandbox = rig.sandbox().await;
    assert_eq!(rig.provider.reclaim(&sandbox).await.unwrap(), 0);
    rig.provider.freeze(&sandbox).await.unwrap();
    let swap = std::fs::read_to_string("/proc/swaps").unwrap().lines().count() > 1;
    let given = rig.provider.reclaim(&sandbox).await.unwrap();
    assert!(swap || given == 0, "{given} bytes went nowhere");
    assert_eq!(rig.provider.inspect(&sandbox).await.unwrap(), Observed::Paused);
    rig.provider.resume(&sandbox).await.unwrap();
    assert_eq!(rig.sh(&sandbox, "echo alive").await.out, "alive");
    rig.provider.destroy(&sandbox).await.unwrap();
    rig.finish().await;
}
