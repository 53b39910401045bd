//! The body of an answer: pieces handed out one by one, with waits, hangs and cuts between.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Piece {
    Bytes(Bytes),
    Wait(Duration),
    /// Nothing more, and no end.
    Hang,
    /// The connection breaks.
    Cut,
}

/// The connection is to be closed without a further word.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Disconnect;

impl fmt::Display for Disconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection closes here")
    }
}

impl std::error::Error for Disconnect {}

/// How long a cut waits, so that what was said before it is sent rather than lost in a buffer.
const BEFORE_CUT: Duration = Duration::from_millis(20);

impl Piece {
    /// The pieces of a cut.
    pub(crate) fn cut() -> [Self; 2] {
        [Self::Wait(BEFORE_CUT), Self::Cut]
    }
}

/// A body: known beforehand, or played piece by piece.
pub(crate) enum Player {
    Whole(Full<Bytes>),
    Played { pieces: VecDeque<Piece>, waiting: Option<Pin<Box<Sleep>>> },
}

impl Player {
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Full::new(bytes.into()))
    }

    pub(crate) fn new(pieces: VecDeque<Piece>) -> Self {
        match pieces.front() {
            Some(Piece::Bytes(bytes)) if pieces.len() == 1 => Self::whole(bytes.clone()),
            _ => Self::Played { pieces, waiting: None },
        }
    }
}

impl Body for Player {
    type Data = Bytes;
    type Error = Disconnect;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Disconnect>>> {
        let (pieces, waiting) = match self.get_mut() {
            Self::Whole(body) => {
                return Pin::new(body).poll_frame(cx).map_err(|never| match never {});
            }
            Self::Played { pieces, waiting } => (pieces, waiting),
        };
        loop {
            if let Some(sleep) = waiting {
                std::task::ready!(sleep.as_mut().poll(cx));
                *waiting = None;
            }
            match pieces.front() {
                None => return Poll::Ready(None),
                Some(Piece::Hang) => return Poll::Pending,
                Some(Piece::Cut) => return Poll::Ready(Some(Err(Disconnect))),
                Some(Piece::Wait(wait)) => *waiting = Some(Box::pin(tokio::time::sleep(*wait))),
                Some(Piece::Bytes(bytes)) => {
                    let frame = Frame::data(bytes.clone());
                    pieces.pop_front();
                    return Poll::Ready(Some(Ok(frame)));
                }
            }
            pieces.pop_front();
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Played { .. } => SizeHint::default(),
        }
    }
}
