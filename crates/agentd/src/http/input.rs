//! Reading requests: who sends them, what they ask for, what they bring.

use std::{ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::{Request, body::Incoming, header::AUTHORIZATION};
use rclaude_types::{ErrorCode, agentd::User};
use serde::de::DeserializeOwned;

use crate::{
    files::Condition,
    refusal::{Refusal, Result},
};

/// The most JSON a request may bring: a command with a long argument list and environment.
const MAX_JSON_BYTES: usize = 4 * 1024 * 1024;

/// Longest path, as the kernel's `PATH_MAX`.
const MAX_PATH_BYTES: usize = 4096;

/// Whether the request carries the token. Takes the same time wherever the first wrong byte is.
pub(super) fn is_authentic(request: &Request<Incoming>, token: &[u8]) -> bool {
    let presented = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
        .unwrap_or_default();
    let differing = presented.iter().zip(token).fold(0, |sum, (a, b)| sum | (a ^ b));
    // The length is not secret; `black_box` keeps the fold from stopping early.
    presented.len() == token.len() && std::hint::black_box(differing) == 0
}

/// What follows the question mark.
pub(super) struct Query(Vec<(String, Vec<u8>)>);

impl Query {
    pub(super) fn of(request: &Request<Incoming>) -> Result<Self> {
        Self::parse(request.uri().query().unwrap_or_default())
    }

    fn parse(text: &str) -> Result<Self> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let decoded = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value)
                .ok_or_else(|| Refusal::invalid(format!("{name} is not percent-encoded")))?;
            Ok((name.to_owned(), value))
        });
        decoded.collect::<Result<_>>().map(Self)
    }

    fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_slice())
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&str>> {
        self.get(name)
            .map(|value| {
                str::from_utf8(value).map_err(|_| Refusal::invalid(format!("{name} is not text")))
            })
            .transpose()
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool> {
        match self.text(name)? {
            None | Some("false") => Ok(false),
            Some("true" | "") => Ok(true),
            Some(_) => Err(Refusal::invalid(format!("{name} must be true or false"))),
        }
    }

    /// A number, 0 if absent.
    pub(super) fn number(&self, name: &str) -> Result<u64> {
        Ok(self.optional_number(name)?.unwrap_or(0))
    }

    /// A number, if there is one.
    pub(super) fn optional_number(&self, name: &str) -> Result<Option<u64>> {
        self.text(name)?
            .map(|text| {
                text.parse().map_err(|_| Refusal::invalid(format!("{name} must be a number")))
            })
            .transpose()
    }

    /// Permission bits in octal.
    pub(super) fn mode(&self) -> Result<Option<u32>> {
        self.text("mode")?
            .map(|text| {
                u32::from_str_radix(text, 8)
                    .ok()
                    .filter(|mode| *mode <= 0o7777)
                    .ok_or_else(|| Refusal::invalid("mode must be octal permission bits"))
            })
            .transpose()
    }

    pub(super) fn user(&self) -> Result<User> {
        match self.text("user")? {
            None | Some("agent") => Ok(User::Agent),
            Some("root") => Ok(User::Root),
            Some(_) => Err(Refusal::invalid("user must be agent or root")),
        }
    }

    /// A text that need not be there.
    pub(super) fn word(&self, name: &str) -> Result<Option<String>> {
        Ok(self.text(name)?.map(str::to_owned))
    }

    /// What must be in a file's place: `if_match`, or `if_none_match=*`.
    pub(super) fn condition(&self) -> Result<Condition> {
        match (self.text("if_match")?, self.text("if_none_match")?) {
            (None, None) => Ok(Condition::None),
            (Some(etag), None) => Ok(Condition::Match(etag.to_owned())),
            (None, Some("*")) => Ok(Condition::Absent),
            _ => Err(Refusal::invalid("either if_match, or if_none_match=*")),
        }
    }

    pub(super) fn path(&self) -> Result<PathBuf> {
        self.a_path("path")
    }

    pub(super) fn from(&self) -> Result<PathBuf> {
        self.a_path("from")
    }

    pub(super) fn to(&self) -> Result<PathBuf> {
        self.a_path("to")
    }

    /// Where a link is to lead, as it is.
    pub(super) fn target(&self) -> Result<OsString> {
        let bytes = self.get("target").ok_or_else(|| Refusal::invalid("target is missing"))?;
        if bytes.is_empty() || bytes.len() >= MAX_PATH_BYTES || bytes.contains(&0) {
            return Err(Refusal::invalid("the target is empty, too long or holds a NUL"));
        }
        Ok(OsString::from_vec(bytes.to_vec()))
    }

    fn a_path(&self, name: &str) -> Result<PathBuf> {
        let missing = || Refusal::invalid(format!("{name} is missing"));
        absolute(self.get(name).ok_or_else(missing)?.to_vec())
    }
}

/// A path the kernel can be given, from the root.
fn absolute(bytes: Vec<u8>) -> Result<PathBuf> {
    if bytes.len() >= MAX_PATH_BYTES || bytes.contains(&0) {
        return Err(Refusal::invalid("the path is too long or holds a NUL"));
    }
    let path = PathBuf::from(OsString::from_vec(bytes));
    if path.is_absolute() { Ok(path) } else { Err(Refusal::invalid("the path must be absolute")) }
}

/// The next bytes of a body; `None` at its end.
pub(crate) async fn next(body: &mut Incoming) -> Result<Option<Bytes>> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Refusal::invalid(format!("the body broke: {error}")))?;
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// A body of JSON.
pub(super) async fn json<T: DeserializeOwned>(mut body: Incoming) -> Result<T> {
    let mut whole = BytesMut::new();
    while let Some(data) = next(&mut body).await? {
        if whole.len() + data.len() > MAX_JSON_BYTES {
            let detail = format!("the body must be at most {MAX_JSON_BYTES} bytes");
            return Err(Refusal::new(ErrorCode::TooLarge, detail));
        }
        whole.extend_from_slice(&data);
    }
    serde_json::from_slice(&whole).map_err(|error| Refusal::invalid(error.to_string()))
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => digit(rest.next()?)? << 4 | digit(rest.next()?)?,
            b'+' => b' ',
            other => other,
        });
    }
    Some(bytes)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_may_name_any_path_and_nothing_malformed() {
        let query = Query::parse("path=/a%20b/%FF&recursive=true&mode=755").unwrap();
        assert_eq!(query.path().unwrap().into_os_string().into_vec(), b"/a b/\xff");
        assert_eq!((query.flag("recursive").unwrap(), query.mode().unwrap()), (true, Some(0o755)));
        for bad in ["path=%F", "path=%zz", "path=rel", "path=/%00", "x=1"] {
            assert!(Query::parse(bad).and_then(|query| query.path()).is_err(), "{bad}");
        }
    }
}
