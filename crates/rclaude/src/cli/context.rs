//! What every verb is given.

use std::time::Duration;

use rclaude_types::Session;

use crate::{
    client::Client,
    config::{Connection, Settings, Source, is_loopback},
    exit::Failure,
    local_server,
    ui::Ui,
};

/// Settings, terminal and the flags that every verb takes.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) settings: Settings,
    pub(crate) ui: Ui,
    /// Print the API's JSON.
    pub(crate) json: bool,
    pub(crate) verbose: bool,
    /// Start a server if none answers.
    pub(crate) start_server: bool,
}

impl Context {
    /// A client of the server the settings name; one on this host is started where the user
    /// wants that.
    pub(crate) async fn client(&mut self) -> Result<Client, Failure> {
        let connection = self.settings.connection()?;
        let Some(reason) = nobody_there(&connection).await else {
            return Client::new(&connection);
        };
        // Somebody who named a server wants that one, not another of ours.
        let ours = matches!(connection.source, Source::Default | Source::LocalServer);
        let question = format!("No server answers at {}. Start one on this host?", connection.url);
        if ours && (self.start_server || self.ui.confirm(&question, false).await) {
            return local_server::start(&self.settings, &mut self.ui).await;
        }
        Err(Failure::Unreachable { url: connection.url.to_string(), reason })
    }

    /// A session's present state.
    pub(crate) async fn session(
        &mut self,
        client: &Client,
        reference: &str,
    ) -> Result<Session, Failure> {
        let asking = client.session(reference);
        Ok(self.ui.wait("asking the server", asking).await?.value)
    }

    /// Text given as an argument, or read from standard input for `-`.
    pub(crate) async fn text(&mut self, argument: &str) -> Result<String, Failure> {
        let text = if argument == "-" {
            let reading = tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin()));
            let text = self.ui.wait("reading standard input", reading).await;
            text.map_err(|error| Failure::Failed(error.to_string()))??
        } else {
            argument.to_owned()
        };
        if text.trim().is_empty() {
            Err(Failure::Usage("there is nothing to say: the text is empty".to_owned()))
        } else {
            Ok(text)
        }
    }
}

/// Why nobody answers on this host; `None` for servers elsewhere, which are asked directly.
async fn nobody_there(connection: &Connection) -> Option<String> {
    if !is_loopback(&connection.url) {
        return None;
    }
    let host = connection.url.host_str()?.trim_matches(['[', ']']).to_owned();
    let port = connection.url.port_or_known_default()?;
    let connecting = tokio::net::TcpStream::connect((host, port));
    match tokio::time::timeout(Duration::from_secs(2), connecting).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(match error.kind() {
            std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            _ => error.to_string(),
        }),
        Err(_) => Some("it does not answer".to_owned()),
    }
}
