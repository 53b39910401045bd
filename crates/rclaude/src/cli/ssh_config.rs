//! `rclaude ssh-config`: what `ssh` must know to reach a session.

use std::net::SocketAddr;

use clap::Args;
use rclaude_types::{ErrorCode, Session, SshDoor};
use url::Url;

use super::{Context, Done};
use crate::{
    config::is_loopback,
    exit::{Exit, Failure},
    ssh_files::{Files, host_alias},
    ui::clean_line,
};

/// Print what ssh must know to reach sessions: `rclaude ssh-config S >> ~/.ssh/config`
///
/// Then `ssh S`, `scp`, `sftp`, `rsync` and editors that work over them reach the session by its
/// name. A key for it is made, and added to the server, where there is none yet; the server's own
/// key is pinned. With --json: one object a session.
#[derive(Debug, Args)]
pub(crate) struct SshConfigArgs {
    /// The sessions
    #[arg(required = true, value_name = "SESSION")]
    sessions: Vec<String>,
}

pub(crate) async fn run(args: SshConfigArgs, cx: &mut Context) -> Done {
    let server = cx.client().await?;
    let status = cx.ui.wait("asking the server", server.status()).await?;
    let Some(door) = status.value.ssh else {
        let why = "this server lets no SSH clients in; start it with `rclaude serve --ssh \
                   127.0.0.1:2222`, or `rclaude config set ssh 127.0.0.1:2222` and start it again";
        return Err(Failure::Failed(why.to_owned()));
    };
    let mut sessions = Vec::new();
    for reference in &args.sessions {
        sessions.push((reference, cx.session(&server, reference).await?));
    }
    let place = place(&door, server.url())?;
    if place.ip().is_loopback() && !is_loopback(server.url()) {
        cx.ui.note(&format!(
            "the server lets SSH clients in on its own host alone ({place}); `ssh -L` to there, or \
             start it with --ssh and an address that is reached from here"
        ));
    }
    let files = Files::new(cx.settings.ssh_dir());
    let identity = files.identity()?;
    if identity.is_new {
        cx.ui.note(&format!("made the key {}", identity.path.display()));
    }
    match cx.ui.wait("adding the key", server.add_ssh_key(&identity.public, None)).await {
        Ok(_) => {}
        Err(Failure::Problem(problem)) if problem.code == ErrorCode::Forbidden => {
            let public = clean_line(&identity.public);
            cx.ui.note(&format!(
                "the server's owner must add this key before it opens anything: `rclaude ssh-key \
                 add -` with {public}"
            ));
        }
        Err(failure) => return Err(failure),
    }
    let known_hosts = files.pin(&door)?;
    for (reference, session) in sessions {
        let host = Host {
            names: names(reference, &session),
            address: place,
            user: session.id.to_string(),
            alias: host_alias(&door),
            identity: identity.path.display().to_string(),
            known_hosts: known_hosts.display().to_string(),
        };
        if cx.json {
            cx.ui.json(&host.json())?;
        } else {
            cx.ui.print(&host.render(server.url()))?;
        }
    }
    Ok(Exit::OK)
}

/// How a session is called in `ssh`'s configuration: by its name, and as it was called here.
fn names(reference: &str, session: &Session) -> Vec<String> {
    let mut names = vec![session.name.clone(), reference.to_owned()];
    names.dedup();
    // Whatever a server says: no more than one word each.
    let is_word =
        |it: &String| it.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    names.retain(is_word);
    names
}

/// Where the door is, seen from here: a server that listens on all addresses is reached where its
/// API is.
fn place(door: &SshDoor, url: &Url) -> Result<SocketAddr, Failure> {
    let told: SocketAddr = door.address.parse().map_err(|_| {
        Failure::Failed(format!(
            "the server tells a strange address: {}",
            clean_line(&door.address)
        ))
    })?;
    if !told.ip().is_unspecified() {
        return Ok(told);
    }
    let reached = url.socket_addrs(|| None)?;
    let ip = reached.first().map_or_else(|| told.ip(), SocketAddr::ip);
    Ok(SocketAddr::new(ip, told.port()))
}

/// A block of `ssh_config`.
struct Host {
    names: Vec<String>,
    address: SocketAddr,
    user: String,
    alias: String,
    identity: String,
    known_hosts: String,
}

impl Host {
    fn render(&self, server: &Url) -> String {
        // `ssh` takes `%` for the beginning of a word of its own.
        let path = |path: &str| format!("\"{}\"", path.replace('%', "%%"));
        let lines = [
            ("HostName", self.address.ip().to_string()),
            ("Port", self.address.port().to_string()),
            ("User", self.user.clone()),
            ("IdentityFile", path(&self.identity)),
            ("IdentitiesOnly", "yes".to_owned()),
            ("PreferredAuthentications", "publickey".to_owned()),
            ("HostKeyAlias", self.alias.clone()),
            ("UserKnownHostsFile", path(&self.known_hosts)),
            ("StrictHostKeyChecking", "yes".to_owned()),
        ];
        let lines = lines.map(|(key, value)| format!("    {key} {value}")).join("\n");
        format!(
            "# A session of {server}, by rclaude ssh-config\nHost {}\n{lines}",
            self.names.join(" ")
        )
    }

    fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "host": self.names,
            "hostname": self.address.ip().to_string(),
            "port": self.address.port(),
            "user": self.user,
            "identity_file": self.identity,
            "host_key_alias": self.alias,
            "known_hosts_file": self.known_hosts,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(address: &str) -> SshDoor {
        SshDoor {
            address: address.to_owned(),
            host_key: "ssh-ed25519 AAAA".to_owned(),
            fingerprint: "SHA256:abc".to_owned(),
        }
    }

    #[test]
    fn a_server_that_listens_everywhere_is_reached_where_its_api_is() {
        let url = Url::parse("http://127.0.0.1:7080").unwrap();
        let at = |text: &str| place(&door(text), &url).unwrap().to_string();
        assert_eq!(at("0.0.0.0:2222"), "127.0.0.1:2222");
        assert_eq!(at("192.0.2.7:2222"), "192.0.2.7:2222");
        assert!(place(&door("nowhere"), &url).is_err());
    }

    #[test]
    fn a_block_names_the_session_and_all_that_reaches_it() {
        let host = Host {
            names: vec!["shop".to_owned()],
            address: "127.0.0.1:2222".parse().unwrap(),
            user: "ses_1".to_owned(),
            alias: "rclaude-abc".to_owned(),
            identity: "/home/100%/id".to_owned(),
            known_hosts: "/home/me/known hosts".to_owned(),
        };
        let text = host.render(&Url::parse("http://h").unwrap());
        for line in [
            "Host shop\n",
            "    Port 2222\n",
            "    User ses_1\n",
            "    IdentityFile \"/home/100%%/id\"\n",
            "    UserKnownHostsFile \"/home/me/known hosts\"\n",
            "    StrictHostKeyChecking yes",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }
}
