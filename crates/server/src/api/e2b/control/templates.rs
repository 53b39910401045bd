//! Templates: there is one.

use axum::{Json as Answer, extract::Path};
use rclaude_types::ErrorCode;
use serde_json::{Value, json};

use super::create::is_base;
use crate::api::problem::{Refusal, Result};

/// All that there are.
pub(super) async fn list() -> Answer<Value> {
    Answer(
        json!([{ "templateID": "base", "aliases": ["base"], "names": ["base"], "public": true }]),
    )
}

/// What goes by a name.
pub(super) async fn alias(Path(alias): Path<String>) -> Result<Answer<Value>> {
    if is_base(&alias) {
        return Ok(Answer(json!({ "templateID": "base", "public": true })));
    }
    let text = format!("template '{alias}' not found; there is 'base'");
    Err(Refusal::new(ErrorCode::TemplateNotFound, text))
}
