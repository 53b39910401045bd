//! The two bodies of a forwarded request: the same bytes, watched.

use std::{
    pin::Pin,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use axum::{BoxError, body::Body};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use super::meter::{Meter, RequestScan};

/// A request's body on its way up, up to a limit.
pub(super) struct Upload {
    pub(super) body: Body,
    pub(super) left: usize,
    /// Set when the body was longer than the limit.
    pub(super) too_large: Arc<AtomicBool>,
    pub(super) scan: Option<RequestScan>,
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let frame = match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            None => return Poll::Ready(None),
        };
        if let Some(bytes) = frame.data_ref() {
            let Some(left) = this.left.checked_sub(bytes.len()) else {
                this.too_large.store(true, Ordering::Relaxed);
                return Poll::Ready(Some(Err("the request is too large".into())));
            };
            this.left = left;
            if let Some(scan) = &this.scan {
                scan.lock().unwrap_or_else(PoisonError::into_inner).feed(bytes);
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body on its way down. Dropping it hangs up on the API and ends the meter.
pub(super) struct Download {
    pub(super) body: Incoming,
    pub(super) meter: Option<Meter>,
}

impl HttpBody for Download {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        if let (Some(Ok(frame)), Some(meter)) = (&frame, &mut this.meter)
            && let Some(bytes) = frame.data_ref()
        {
            meter.feed(bytes);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
