//! Making a WebSocket to the server.

use std::time::Duration;

use rclaude_types::{ErrorCode, Problem};
use reqwest::StatusCode;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{self, client::IntoClientRequest, http::HeaderValue},
};
use url::Url;

use super::{Client, http};
use crate::exit::Failure;

/// For a connection to be made.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);

pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Whether trying again can help.
pub(super) enum Broken {
    ForNow(String),
    ForGood(Failure),
}

impl Broken {
    pub(super) fn by(problem: Problem) -> Self {
        match problem.code {
            // The server is on its way down, and we hope up again.
            ErrorCode::ShuttingDown | ErrorCode::Internal => Self::ForNow(problem.detail),
            _ => Self::ForGood(Failure::Problem(problem)),
        }
    }
}

/// Opens a WebSocket where the URL, of the API, says.
pub(super) async fn open(client: &Client, mut url: Url) -> Result<Socket, Broken> {
    let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
    // Between http and ws, and https and wss, the standard allows the change.
    let _ = url.set_scheme(scheme);
    let mut request = url
        .as_str()
        .into_client_request()
        .map_err(|error| Broken::ForGood(Failure::Failed(error.to_string())))?;
    if let Some(token) = client.token() {
        let value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
            Broken::ForGood(Failure::Usage("the token has characters no key has".to_owned()))
        })?;
        request.headers_mut().insert("authorization", value);
    }
    // Keystrokes do not wait for company.
    let connecting = tokio_tungstenite::connect_async_with_config(request, None, true);
    match tokio::time::timeout(CONNECT_WITHIN, connecting).await {
        Err(_) => Err(Broken::ForNow("it does not answer".to_owned())),
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(tungstenite::Error::Http(response))) => {
            let status = response.status();
            let body = response.body().as_deref().unwrap_or_default();
            let status =
                StatusCode::from_u16(status.as_u16()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            match http::read_refusal(client.url(), status, body) {
                Failure::Problem(problem) => Err(Broken::by(problem)),
                other if status.is_server_error() => Err(Broken::ForNow(other.to_string())),
                other => Err(Broken::ForGood(other)),
            }
        }
        Ok(Err(error)) => Err(Broken::ForNow(http::chain(&error))),
    }
}
