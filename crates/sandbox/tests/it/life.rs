//! From create to destroy, and what may happen in between.

use rclaude_sandbox::provider::{Observed, Pausing as _, SandboxProvider as _};

use crate::rig::Rig;

#[tokio::test]
async fn a_sandbox_runs_commands_as_the_agent_and_leaves_nothing() {
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    let outcome = rig.sh(&sandbox, "id -u; id -gn; pwd; hostname; ls -d /root /home/*").await;
    println!("{}", outcome.out);
    assert_eq!(outcome.status, 0);
    assert_eq!(rig.provider.inspect(&sandbox).await.unwrap(), Observed::Running);
    println!(
        "{}",
        rig.sh(
            &sandbox,
            "cat /proc/self/mountinfo; ls -la / /dev /proc/1; ps aux; df -h; cat /proc/self/status"
        )
        .await
        .out
    );
    rig.provider.pause(&sandbox).await.unwrap();
    rig.provider.resume(&sandbox).await.unwrap();
    rig.provider.destroy(&sandbox).await.unwrap();
    assert_eq!(rig.provider.inspect(&sandbox).await.unwrap(), Observed::Absent);
    rig.finish().await;
}
