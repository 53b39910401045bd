//! Calls with many messages from one side.

use std::io;

use axum::{
    body::{Body, BodyDataStream},
    extract::Request,
    http::{HeaderValue, header},
    response::Response,
};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{
    Error, Result,
    envelope::{self, Opened},
    unary,
};
use crate::api::Api;

const STREAM: &str = "application/connect+json";
/// Messages on their way to a client that does not read; what makes them waits.
const WAITING: usize = 8;

/// Where a call's messages go.
#[derive(Debug)]
pub(in crate::api::e2b) struct Sender(mpsc::Sender<io::Result<Bytes>>);

impl Sender {
    /// Sends a message; `false` once nobody listens any more.
    pub(in crate::api::e2b) async fn send(&self, message: &impl Serialize) -> bool {
        self.0.send(Ok(envelope::message(message))).await.is_ok()
    }

    /// Until nobody listens any more.
    pub(in crate::api::e2b) async fn closed(&self) {
        self.0.closed().await;
    }
}

/// Answers with what `work` sends, and how it ends. It runs to its end by itself: that a client
/// hangs up is for it to see. It ends with the server.
pub(in crate::api::e2b) fn respond<Work>(api: &Api, work: impl FnOnce(Sender) -> Work) -> Response
where
    Work: Future<Output = Result<()>> + Send + 'static,
{
    let (sender, messages) = mpsc::channel(WAITING);
    let ending = sender.clone();
    let (work, stopping) = (work(Sender(sender)), api.stopping.clone());
    api.tasks.spawn(async move {
        let outcome = stopping.run_until_cancelled(work).await;
        let error = outcome.unwrap_or_else(|| Err(Error::gone())).err();
        let _hung_up = ending.send(Ok(envelope::end(error.as_ref()))).await;
    });
    answer(Body::from_stream(ReceiverStream::new(messages)))
}

fn answer(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(STREAM));
    response
}

/// A streaming call that failed before it began, or that has one message as its answer.
pub(in crate::api::e2b) fn at_once(outcome: Result<&impl Serialize>) -> Response {
    let mut body = BytesMut::new();
    let error = match outcome {
        Ok(message) => {
            body.extend_from_slice(&envelope::message(message));
            None
        }
        Err(error) => Some(error),
    };
    body.extend_from_slice(&envelope::end(error.as_ref()));
    answer(Body::from(body.freeze()))
}

/// A client's messages, as they arrive.
#[derive(Debug)]
pub(in crate::api::e2b) struct Incoming {
    body: BodyDataStream,
    buffer: BytesMut,
    ended: bool,
}

/// The messages of a streaming call.
#[expect(clippy::result_large_err, reason = "an answer, made once")]
pub(in crate::api::e2b) fn incoming(request: Request) -> Result<Incoming, Response> {
    unary::require(request.headers(), STREAM)?;
    let body = request.into_body().into_data_stream();
    Ok(Incoming { body, buffer: BytesMut::new(), ended: false })
}

impl Incoming {
    /// The next message; `None` after the last.
    pub(in crate::api::e2b) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        while !self.ended {
            match envelope::open(&mut self.buffer)? {
                Some(Opened::Message(content)) => return unary::parse(&content).map(Some),
                Some(Opened::End) => break,
                None => {}
            }
            match self.body.next().await {
                // An envelope that announces too much was refused when it was opened.
                Some(Ok(data)) => self.buffer.extend_from_slice(&data),
                Some(Err(error)) => return Err(Error::invalid(format!("it broke off: {error}"))),
                None if self.buffer.is_empty() => break,
                None => return Err(Error::invalid("the stream ended within a message")),
            }
        }
        self.ended = true;
        Ok(None)
    }

    /// The one message of a call that has one.
    pub(in crate::api::e2b) async fn only<T: DeserializeOwned>(mut self) -> Result<T> {
        let message = self.next().await?;
        message.ok_or_else(|| Error::invalid("the call has no message"))
    }
}
