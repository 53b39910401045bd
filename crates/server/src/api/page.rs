//! Paging, the same for every list.

use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    problem::{Refusal, Result},
    validate::Validate,
};

/// Entries of a page at most.
pub(super) const MAX_LIMIT: u32 = 200;
/// Entries of a page unless asked otherwise.
pub(super) const DEFAULT_LIMIT: u32 = 50;
/// Characters of a cursor at most; ours are far shorter.
const MAX_CURSOR: usize = 255;

/// Which page of a list.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// `next_cursor` of the page before; the first page if absent.
    #[param(max_length = 255)]
    pub(super) cursor: Option<String>,
    /// Entries at most.
    #[serde(default = "default_limit")]
    #[param(minimum = 1, maximum = 200, default = 50, required = false)]
    pub(super) limit: u32,
}

const fn default_limit() -> u32 {
    DEFAULT_LIMIT
}

impl Validate for PageQuery {
    fn validate(&self) -> Result<()> {
        check(self.cursor.as_deref(), self.limit)
    }
}

/// Checks a page's bounds.
pub(super) fn check(cursor: Option<&str>, limit: u32) -> Result<()> {
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Refusal::invalid(format!("limit: is {limit}; must be from 1 to {MAX_LIMIT}")));
    }
    if cursor.is_some_and(|cursor| cursor.chars().count() > MAX_CURSOR) {
        return Err(Refusal::invalid("cursor: is none of ours; pass `next_cursor` unchanged"));
    }
    Ok(())
}
