//! How a session's files differ from where they began.

use axum::{
    Json as Answer,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use rclaude_types::{DiffFormat, ErrorCode, SessionDiff};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api,
    extract::{InSession, Query},
    openapi::Octets,
    problem::{Refusal, Result},
    stream::accepts,
    validate::Validate,
};

/// Media type of a patch.
const PATCH: &str = "text/x-diff";

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(get))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DiffQuery {
    /// With the patch (`full`) or counts alone (`stat`).
    #[serde(default)]
    #[param(inline, required = false)]
    format: DiffFormat,
}

impl Validate for DiffQuery {
    fn validate(&self) -> Result<()> {
        Ok(())
    }
}

/// Shows what changed.
///
/// As JSON, or, with `accept: text/x-diff`, the patch alone, byte for byte as `git apply` takes
/// it.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session}/diff",
    operation_id = "get_diff",
    tag = "files",
    params(DiffQuery),
    responses(
        (status = 200, description = "The difference.", content(
            (SessionDiff = "application/json"),
            (Octets = "text/x-diff"),
        ))
    )
)]
pub(super) async fn get(
    State(api): State<Api>,
    InSession(id): InSession,
    Query(query): Query<DiffQuery>,
    headers: HeaderMap,
) -> Result<Response> {
    if accepts(&headers, PATCH) {
        let diff = api.sessions.diff(&id, DiffFormat::Full).await?;
        return Ok(([(header::CONTENT_TYPE, PATCH)], patch(diff)?).into_response());
    }
    Ok(Answer(api.sessions.diff(&id, query.format).await?).into_response())
}

fn patch(diff: SessionDiff) -> Result<Vec<u8>> {
    match (diff.patch, diff.patch_base64) {
        (Some(text), _) => Ok(text.into_bytes()),
        (None, Some(encoded)) => BASE64_STANDARD
            .decode(encoded)
            .map_err(|_| Refusal::new(ErrorCode::Internal, "the patch was not encoded well")),
        (None, None) => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_comes_out_byte_for_byte() {
        let text = SessionDiff { patch: Some("+ä\n".into()), ..SessionDiff::default() };
        assert_eq!(patch(text).unwrap(), "+ä\n".as_bytes());
        let bytes = SessionDiff {
            patch_base64: Some(BASE64_STANDARD.encode(b"+\xff\n")),
            ..SessionDiff::default()
        };
        assert_eq!(patch(bytes).unwrap(), b"+\xff\n");
        assert_eq!(patch(SessionDiff::default()).unwrap(), b"");
    }
}
