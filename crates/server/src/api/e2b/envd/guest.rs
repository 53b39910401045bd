//! Who calls a sandbox's door, and for whom.

use std::path::PathBuf;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use rclaude_sandbox::agentd;
use rclaude_types::{SessionId, agentd::User};

use crate::{
    api::{
        Api,
        e2b::{
            TOKEN,
            connect::{self, Code, Error},
            envd::desk::Desk,
            id, target, words,
        },
    },
    session::manager::leases::{Lent, Open},
};

/// How long a sandbox lasts that a request brought back, in seconds: as E2B has it.
const BROUGHT_BACK: u32 = 300;

/// In whose rights something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    User,
    Root,
}

impl Who {
    /// By E2B's name; the default if empty.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "" | "user" => Some(Self::User),
            "root" => Some(Self::Root),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Root => "root",
        }
    }

    pub(super) fn home(self) -> &'static str {
        match self {
            Self::User => "/home/user",
            Self::Root => "/root",
        }
    }

    pub(super) fn rights(self) -> User {
        match self {
            Self::User => User::Agent,
            Self::Root => User::Root,
        }
    }

    /// A path as it is meant: relative ones, and those that begin with `~`, are in the home.
    pub(super) fn path(self, text: &str) -> PathBuf {
        let rest = match text.strip_prefix('~') {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => rest.trim_start_matches('/'),
            _ => text,
        };
        clean(&format!("{}/{rest}", if text.starts_with('/') { "" } else { self.home() }))
    }
}

/// A path without `.`, `..` and doubled slashes, by its text alone.
fn clean(text: &str) -> PathBuf {
    let mut parts = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    PathBuf::from(format!("/{}", parts.join("/")))
}

/// A caller who has proved that it may use the sandbox, which is up or coming up.
pub(super) struct Guest {
    pub(super) api: Api,
    pub(super) session: SessionId,
    pub(super) lent: Lent,
    pub(super) who: Who,
}

impl Guest {
    /// What is kept for the sandbox.
    pub(super) fn desk(&self) -> std::sync::Arc<Desk> {
        self.api.e2b.desks.of(&self.session)
    }

    /// The way in.
    pub(super) async fn open(&self) -> connect::Result<Open> {
        Ok(self.api.sessions.open(&self.session).await?)
    }

    /// The daemon, doing file work in the caller's rights.
    pub(super) async fn files(&self) -> connect::Result<agentd::Client> {
        Ok(self.open().await?.client.files_as(self.who.rights()))
    }

    /// A path as the caller means it.
    pub(super) fn path(&self, text: &str) -> PathBuf {
        self.who.path(text)
    }
}

impl FromRequestParts<Api> for Guest {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Response> {
        let session = session(parts)?;
        if !has_token(api, &session, &parts.headers) {
            return Err(unproved());
        }
        let who = basic(&parts.headers).map_err(|error| said(parts, error))?;
        admitted(api, session, who).await
    }
}

/// An error as the call's kind has it: a stream's client reads no status.
fn said(parts: &Parts, error: Error) -> Response {
    let kind = parts.headers.get(header::CONTENT_TYPE).map(header::HeaderValue::as_bytes);
    if kind.is_some_and(|kind| kind.starts_with(b"application/connect+")) {
        return connect::at_once(Err::<&(), _>(error));
    }
    error.into_response()
}

/// The session that the request was found to be for.
#[expect(clippy::result_large_err, reason = "an answer, made once")]
pub(super) fn session(parts: &Parts) -> Result<SessionId, Response> {
    parts.extensions.get::<SessionId>().cloned().ok_or_else(|| target::not_found(""))
}

/// Whether a request carries the sandbox's token.
pub(super) fn has_token(api: &Api, session: &SessionId, headers: &HeaderMap) -> bool {
    let token = headers.get(TOKEN).and_then(|value| value.to_str().ok());
    token.is_some_and(|token| api.e2b.tokens.is_of(session, token))
}

pub(super) fn unproved() -> Response {
    words::error(
        StatusCode::UNAUTHORIZED,
        "unauthorized access, please provide a valid access token",
    )
}

/// Lets a caller who has proved itself in, if the sandbox is there.
pub(super) async fn admitted(api: &Api, session: SessionId, who: Who) -> Result<Guest, Response> {
    let missing = || target::not_found(&id::sandbox(&session));
    let lent = api.sessions.lent(&session).await.map_err(|_| missing())?;
    if who == Who::Root && !lent.settings().allow_root {
        let error = Error::new(Code::Unauthenticated, "this sandbox has no user `root`");
        return Err(error.into_response());
    }
    if !lent.is_running() {
        if !lent.lease.auto_resume {
            return Err(missing());
        }
        let said = |problem| words::said(&problem);
        api.sessions.extend(&session, BROUGHT_BACK, true).await.map_err(said)?;
        api.sessions.resume(&session).await.map_err(said)?;
    }
    Ok(Guest { api: api.clone(), session, lent, who })
}

/// The user that a call names: as the name of basic credentials, without a password.
fn basic(headers: &HeaderMap) -> connect::Result<Who> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(Who::User) };
    let name = value
        .to_str()
        .ok()
        .and_then(|value| value.strip_prefix("Basic "))
        .and_then(|text| BASE64_STANDARD.decode(text.trim()).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| Error::new(Code::Unauthenticated, "malformed credentials"))?;
    let name = name.split(':').next().unwrap_or("");
    Who::named(name)
        .ok_or_else(|| Error::new(Code::Unauthenticated, format!("invalid username: '{name}'")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_in_the_home_unless_it_is_absolute() {
        for (text, wanted) in [
            ("a", "/home/user/a"),
            ("", "/home/user"),
            (".", "/home/user"),
            ("~", "/home/user"),
            ("~/a", "/home/user/a"),
            ("~a", "/home/user/~a"),
            ("./a/../b//c/", "/home/user/b/c"),
            ("/etc/../tmp/x", "/tmp/x"),
            ("/../..", "/"),
        ] {
            assert_eq!(Who::User.path(text), PathBuf::from(wanted), "{text}");
        }
        assert_eq!(Who::Root.path("a"), PathBuf::from("/root/a"));
    }

    #[test]
    fn a_user_is_named_by_basic_credentials() {
        let of = |value: &'static str| {
            let value = header::HeaderValue::from_static(value);
            basic(&HeaderMap::from_iter([(header::AUTHORIZATION, value)]))
        };
        assert_eq!(basic(&HeaderMap::new()), Ok(Who::User));
        assert_eq!(of("Basic cm9vdDo="), Ok(Who::Root));
        assert_eq!(of("Basic dXNlcjo="), Ok(Who::User));
        for other in ["Basic bW9uaw==", "Basic !", "Bearer cm9vdDo="] {
            assert_eq!(of(other).map_err(|it| it.code()), Err(Code::Unauthenticated), "{other}");
        }
    }
}
