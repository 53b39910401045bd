//! Bodies of answers, and answers of them.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::{
    Response, StatusCode,
    body::{Frame, SizeHint},
    header::{CONTENT_TYPE, HeaderValue},
};
use rclaude_types::{ErrorCode, Problem, agentd::STDIN_ACCEPTED_HEADER};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::refusal::{Refusal, Result};

/// The body of an answer.
pub(crate) enum Body {
    /// All of it at hand.
    Whole(Option<Bytes>),
    /// Made by a task while it is sent.
    Pieces(mpsc::Receiver<io::Result<Bytes>>),
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Pieces(pieces) => {
                pieces.poll_recv(cx).map(|piece| piece.map(|bytes| bytes.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Pieces(_) => SizeHint::default(),
        }
    }
}

/// An answer whose body says it all.
pub(super) fn answer(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// An answer of bytes.
pub(super) fn bytes(body: Body) -> Response<Body> {
    answer(StatusCode::OK, "application/octet-stream", body)
}

/// An answer in JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Result<Response<Body>> {
    let text = serde_json::to_vec(value).map_err(|error| Refusal::internal(error.to_string()))?;
    Ok(answer(status, "application/json", Body::Whole(Some(text.into()))))
}

/// The answer that it was done.
pub(super) fn done() -> Response<Body> {
    let mut response = Response::new(Body::Whole(None));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// The answer to a request that is not done.
pub(super) fn refused(refusal: &Refusal) -> Response<Body> {
    let (problem, accepted) = match refusal {
        Refusal::Problem(problem) => (problem.clone(), None),
        Refusal::Gap(accepted) => {
            let detail = format!("standard input goes on at byte {accepted}");
            (Problem::new(ErrorCode::Conflict, detail), Some(*accepted))
        }
    };
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let text = serde_json::to_vec(&problem).unwrap_or_default();
    let mut response = answer(status, "application/problem+json", Body::Whole(Some(text.into())));
    if let Some(accepted) = accepted {
        response.headers_mut().insert(STDIN_ACCEPTED_HEADER, HeaderValue::from(accepted));
    }
    response
}
