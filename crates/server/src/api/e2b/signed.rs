//! Signed addresses of files that name no sandbox.
//!
//! Where all sandboxes share one address, the SDKs' `download_url` and `upload_url` have it with a
//! path and a signature and nothing else. The signature was made with one sandbox's token, so it
//! says which: the one whose token makes the same.

use axum::{
    extract::Query,
    http::{Method, Uri},
};
use rclaude_types::SessionId;

use super::{envd::FileQuery, token::Operation};
use crate::{api::Api, session::manager::leases::LeaseFilter};

/// `v1_` and 43 digits of base64.
const LENGTH: usize = 46;
/// Sandboxes that are tried.
const TRIED: u32 = 10_000;

/// The sandbox that signed a request for a file.
pub(super) async fn session(api: &Api, method: Method, uri: Uri) -> Option<SessionId> {
    let operation = match method {
        Method::GET => Operation::Read,
        Method::POST => Operation::Write,
        _ => return None,
    };
    let Query(asked) = Query::<FileQuery>::try_from_uri(&uri).ok()?;
    let signed = asked.signed(operation).filter(|signed| signed.signature.len() == LENGTH)?;
    let now = api.clock.now();
    if !signed.is_alive(now) {
        return None;
    }
    let filter = LeaseFilter { limit: TRIED, ..LeaseFilter::default() };
    let (lent, _) = api.sessions.leases(&filter).await.ok()?;
    let mut sessions = lent.into_iter().map(|lent| lent.lease.session);
    sessions.find(|session| api.e2b.tokens.signed(session, signed, now))
}
