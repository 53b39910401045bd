//! Ports: what listens in the sandbox, and connections to it.

mod listeners;
mod relay;

use rclaude_types::{Port, agentd::User};

pub(crate) use relay::connect;

use crate::{daemon::Daemon, files::job, refusal::Result, sys::rights::Rights};

/// Ports on which programs in the sandbox listen, by number.
pub(crate) async fn listening(daemon: &Daemon) -> Result<Vec<Port>> {
    let doing = || "see who listens".to_owned();
    // The daemon, though root, may not see what processes of others have open; they themselves
    // may.
    let agent = daemon.rights(User::Agent)?;
    let look = || {
        let sockets = listeners::sockets();
        let holders = listeners::holders(&sockets);
        Ok((sockets, holders))
    };
    let (sockets, mut holders) = job(agent, doing(), look).await?;
    let all = sockets.clone();
    holders.extend(job(Rights::Own, doing(), move || Ok(listeners::holders(&all))).await?);
    Ok(listeners::ports(sockets, &holders))
}
