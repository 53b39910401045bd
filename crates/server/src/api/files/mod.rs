//! Files of a session. Bytes go straight through, whole directories as tar streams; nothing is
//! held here.

mod bytes;
mod query;
mod tar;
mod tree;
mod watch;

use rclaude_types::FileKind;
use utoipa_axum::router::OpenApiRouter;

use self::query::SandboxPath;
pub(super) use self::{
    bytes::send,
    query::FileQuery,
    tree::{AnyQuery, first_page},
};
use super::{
    Api,
    problem::{Refusal, Result},
};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .merge(bytes::routes())
        .merge(tree::routes())
        .merge(tar::routes())
        .merge(watch::routes())
}

/// Permission bits in octal, such as `644`.
fn octal(text: Option<&str>) -> Result<Option<u32>> {
    let Some(text) = text else { return Ok(None) };
    let digits = text.strip_prefix('0').filter(|rest| rest.len() == 3).unwrap_or(text);
    let octal = digits.len() == 3 && digits.bytes().all(|b| matches!(b, b'0'..=b'7'));
    let mode = u32::from_str_radix(digits, 8).ok().filter(|_| octal);
    mode.map(Some)
        .ok_or_else(|| Refusal::invalid(format!("mode: `{text}` is not octal, such as `644`")))
}

/// A directory's entries, or a file's bytes: the original API's one question.
pub(super) async fn list_or_send(
    api: &Api,
    id: &rclaude_types::SessionId,
    path: &std::path::Path,
    headers: &axum::http::HeaderMap,
) -> Result<axum::response::Response> {
    if api.sessions.stat(id, path, true).await?.kind == FileKind::Directory {
        return first_page(api, id, path).await;
    }
    send(api, id, path, headers).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal() {
        assert_eq!(octal(Some("644")).unwrap(), Some(0o644));
        assert_eq!(octal(Some("0755")).unwrap(), Some(0o755));
        for bad in ["", "64", "648", "4755", "00644", "+644", "rw-"] {
            assert!(octal(Some(bad)).is_err(), "{bad}");
        }
    }
}
