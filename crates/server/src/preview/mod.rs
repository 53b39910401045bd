//! Previews: what listens on a port of a session, in a browser.
//!
//! A request whose host is `<port>-<session's digits>.<domain>` is no request to the API: it is
//! [let through](access) or not, and [passed on](forward) to the program in the session, which is
//! [dialled](dial) through the session's daemon. Every port of every session is a web origin of its
//! own, apart from the others and from the API's: what a program in a sandbox serves is not to be
//! trusted with either.

mod access;
mod address;
mod cookies;
mod dial;
mod forward;
mod link;
mod page;

use axum::{body::Body, extract::Request, response::Response};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use rclaude_types::{ErrorCode, PortLink, SessionId, Timestamp};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use url::Url;

pub(crate) use address::Target;

use self::{access::Verdict, address::Domain, dial::Dialler, link::LinkKey};
use crate::{auth::Auth, session::manager::SessionManager};

/// How long a connection to a program is kept for the next request. It keeps the session awake.
const IDLE: std::time::Duration = std::time::Duration::from_secs(5);

/// Why there is no answer of a program's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// Nothing listens there that speaks HTTP.
    Closed,
    /// The session cannot be reached.
    Away,
}

/// What previews are made with.
#[derive(Debug)]
pub struct Previews {
    domain: Domain,
    links: LinkKey,
    sessions: SessionManager,
    /// For HTTP/1.1, which is what programs speak.
    http1: Client<Dialler, Body>,
    /// For gRPC, which is HTTP/2 from its first byte.
    http2: Client<Dialler, Body>,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

impl Previews {
    /// Under `base`, the URL of which each preview's name is a subdomain.
    pub fn new(
        base: &Url,
        secret: &[u8],
        sessions: SessionManager,
        tasks: TaskTracker,
        stopping: CancellationToken,
    ) -> Self {
        let client = || {
            let mut builder = Client::builder(TokioExecutor::new());
            builder.pool_idle_timeout(IDLE).pool_timer(TokioTimer::new()).set_host(false);
            builder
        };
        let dialler = Dialler::new(sessions.clone());
        Self {
            domain: Domain::new(base),
            links: LinkKey::new(secret),
            sessions,
            http1: client().build(dialler.clone()),
            http2: client().http2_only(true).build(dialler),
            tasks,
            stopping,
        }
    }

    /// The preview a request is for; `None` for a request to the API.
    pub(crate) fn target(&self, request: &Request) -> Option<Target> {
        self.domain.target(request)
    }

    /// Where a port of a session is seen.
    pub(crate) fn url(&self, session: &SessionId, port: u16) -> Url {
        self.domain.url(session, port)
    }

    /// A link that lets whoever has it see a port of a session until `expires_at`.
    pub(crate) fn link(&self, session: &SessionId, port: u16, expires_at: Timestamp) -> PortLink {
        let mut url = self.url(session, port);
        let token = self.links.sign(session, port, expires_at);
        url.query_pairs_mut().append_pair(link::NAME, &token);
        PortLink { url: url.to_string(), expires_at }
    }

    /// Passes a request on that somebody else let in, under the name it was sent to.
    pub(crate) async fn pass_on(
        &self,
        session: &SessionId,
        port: u16,
        authority: String,
        request: Request,
    ) -> Result<Response, Unanswered> {
        let target = self.domain.named(session, port, authority);
        self.forward(&target, request).await.map_err(|failure| match failure {
            forward::Failure::Refused(problem) if problem.code != ErrorCode::PortClosed => {
                Unanswered::Away
            }
            _ => Unanswered::Closed,
        })
    }

    /// Answers a request to a preview.
    pub(crate) async fn answer(
        &self,
        auth: &Auth,
        target: &Target,
        now: Timestamp,
        request: Request,
    ) -> Response {
        let (parts, body) = request.into_parts();
        let reader = page::Reader::of(&parts.headers);
        match self.judge(auth, target, now, &parts).await {
            Ok(Verdict::Admitted) => {
                match self.forward(target, Request::from_parts(parts, body)).await {
                    Ok(response) => response,
                    Err(failure) => reader.failed(target, &failure),
                }
            }
            Ok(Verdict::Redirect(response)) => *response,
            Ok(Verdict::Private) => reader.private(target),
            Ok(Verdict::Foreign) => reader.foreign(),
            Err(problem) => reader.failed(target, &forward::Failure::Refused(problem)),
        }
    }
}
