//! What a sandbox may reach. A session's network leads to the model gateway alone, so what asks
//! for less is met already and what asks for more is refused.

use axum::{extract::State, http::StatusCode};
use serde::Deserialize;
use serde_json::Value;

use super::Sandbox;
use crate::api::{
    Api,
    extract::Json,
    problem::{Refusal, Result},
    validate::Validate,
};

/// What a sandbox's maker asks of its network.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Network {
    #[serde(rename = "allow_internet_access")]
    _allow_internet_access: Option<bool>,
    allow_public_traffic: Option<bool>,
    allow_out: Option<Vec<String>>,
    /// All is denied.
    #[serde(rename = "denyOut")]
    _deny_out: Option<Vec<String>>,
    egress_proxy: Option<Value>,
    mask_request_host: Option<String>,
    rules: Option<Value>,
    https_ports: Option<Vec<u16>>,
}

impl Network {
    pub(super) fn check(&self) -> Result<()> {
        let refuse = |what: &str| {
            Err(Refusal::invalid(format!(
                "network.{what}: sandboxes of this server reach the model gateway and nothing \
                 else; leave it out"
            )))
        };
        let some = |value: &Option<Value>| {
            value.as_ref().is_some_and(|value| {
                !value.is_null() && value.as_object().is_none_or(|it| !it.is_empty())
            })
        };
        if self.allow_public_traffic == Some(false) {
            return Err(Refusal::invalid(
                "network.allowPublicTraffic: what a sandbox serves is seen by whoever knows its \
                 id; leave it out",
            ));
        }
        if self.allow_out.as_ref().is_some_and(|hosts| !hosts.is_empty()) {
            return refuse("allowOut");
        }
        if some(&self.egress_proxy) {
            return refuse("egressProxy");
        }
        if some(&self.rules) {
            return refuse("rules");
        }
        if self.mask_request_host.is_some() {
            return refuse("maskRequestHost");
        }
        if self.https_ports.as_ref().is_some_and(|ports| !ports.is_empty()) {
            return refuse("httpsPorts");
        }
        Ok(())
    }
}

impl Validate for Network {
    fn validate(&self) -> Result<()> {
        self.check()
    }
}

/// Sets what a sandbox may reach: what is possible, it has.
pub(super) async fn update(
    State(api): State<Api>,
    Sandbox(session): Sandbox,
    Json(_possible): Json<Network>,
) -> Result<StatusCode> {
    api.sessions.lent(&session).await?;
    Ok(StatusCode::NO_CONTENT)
}
