//! Following a session's log, answering what it asks, and taking its whole host down.

use std::pin::Pin;

use futures::{Stream, StreamExt};
use rclaude_types::{Event, EventBody};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

use crate::platform::{PATIENCE, Platform, kill};

/// A stream of a session's events over one connection.
pub(crate) struct Follower(Pin<Box<dyn Stream<Item = Event> + Send>>);

impl Follower {
    /// The next event; `None` once the connection is over.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        tokio::time::timeout(PATIENCE, self.0.next()).await.unwrap()
    }
}

impl Platform {
    /// Follows over a WebSocket.
    pub(crate) async fn follow(&self, id: &str, after: i64) -> Follower {
        let (url, token) = self.access();
        let url = url.replacen("http", "ws", 1);
        let mut request =
            format!("{url}/v1/sessions/{id}/events?after={after}").into_client_request().unwrap();
        let bearer = format!("Bearer {token}").parse().unwrap();
        request.headers_mut().insert("authorization", bearer);
        let (socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
        let events = socket.take_while(|frame| std::future::ready(frame.is_ok())).filter_map(
            async |frame| match frame {
                Ok(Message::Text(text)) => Some(serde_json::from_str(&text).unwrap()),
                _ => None,
            },
        );
        Follower(Box::pin(events))
    }

    /// Follows over server-sent events.
    pub(crate) async fn follow_sse(&self, id: &str, after: i64) -> Follower {
        let (url, token) = self.access();
        let answer = reqwest::Client::new()
            .get(format!("{url}/v1/sessions/{id}/events?after={after}"))
            .bearer_auth(token)
            .header("accept", "text/event-stream")
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        let mut text = String::new();
        let events = answer
            .bytes_stream()
            .take_while(|piece| std::future::ready(piece.is_ok()))
            .flat_map(move |piece| {
                text.push_str(std::str::from_utf8(&piece.unwrap()).unwrap());
                let mut whole = Vec::new();
                while let Some((frame, rest)) = text.split_once("\n\n") {
                    let data = frame.lines().find_map(|line| line.strip_prefix("data: "));
                    whole.extend(data.map(|data| serde_json::from_str(data).unwrap()));
                    text = rest.to_owned();
                }
                futures::stream::iter(whole)
            });
        Follower(Box::pin(events))
    }

    /// Waits until the agent asks something; the approval as it was asked.
    pub(crate) async fn ask(&self, id: &str) -> rclaude_types::Approval {
        self.event(id, |event| match &event.body {
            EventBody::ApprovalRequested { approval } => Some((**approval).clone()),
            _ => None,
        })
        .await
    }

    /// The same; its id.
    pub(crate) async fn asked(&self, id: &str) -> String {
        self.ask(id).await.id.to_string()
    }

    /// Answers an approval.
    pub(crate) async fn decide(&self, id: &str, approval: &str, decision: Value) -> (u16, Value) {
        self.call("POST", &format!("/v1/sessions/{id}/approvals/{approval}"), Some(decision)).await
    }

    /// Allows what an approval asks.
    pub(crate) async fn allow(&self, id: &str, approval: &str) {
        let (status, answer) = self.decide(id, approval, json!({"decision": "allow"})).await;
        assert_eq!(status, 200, "{answer}");
    }

    /// Ends the server, the supervisor and these sessions' sandboxes at once, as a power cut
    /// does, and starts the server again.
    pub(crate) async fn reboot(&mut self, sessions: &[&str]) {
        let mut daemons = Vec::new();
        for id in sessions {
            daemons.extend(self.processes_of(id, "agentd").await);
        }
        assert!(daemons.len() >= sessions.len());
        self.kill();
        self.end_supervisor();
        daemons.into_iter().for_each(kill);
        self.restart().await;
    }
}
