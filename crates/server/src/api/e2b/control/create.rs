//! Making a sandbox: a session, and a lease on it.

use std::collections::BTreeMap;

use axum::{Json as Answer, extract::State, http::StatusCode};
use rclaude_store::lease::AtEnd;
use rclaude_types::{CreateSession, ErrorCode, Fork, LifePolicy, SessionId};
use serde::Deserialize;
use serde_json::Value;

use super::{network::Network, shape::Made};
use crate::{
    api::{
        Api,
        e2b::id,
        extract::JsonOnce,
        problem::{Refusal, Result},
        validate::{self, Validate},
    },
    session::manager::{Idempotency, leases::Terms},
};

/// Seconds a sandbox lasts unless its maker says otherwise.
const TIMEOUT: u32 = 300;
const TIMEOUT_V1: u32 = 15;
/// A year: more is no limit.
const MAX_TIMEOUT: u32 = 31_536_000;
/// What a sandbox is made of unless its maker says otherwise.
const BASE: &str = "base";
const MAX_METADATA: usize = 100;
const MAX_METADATA_BYTES: usize = 64 << 10;
/// The label that tells sandboxes made through this door from other sessions.
const TEMPLATE_LABEL: &str = "e2b.template";
/// Labels beside it at most; a session may have no more than 64.
const MAX_LABELS: usize = 60;

/// What is asked for. Anything that is not known here is refused: a wish is never passed over.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct NewSandbox {
    #[serde(rename = "templateID")]
    template: String,
    timeout: Option<u32>,
    auto_pause: Option<bool>,
    auto_pause_memory: Option<bool>,
    auto_resume: Option<AutoResume>,
    #[serde(rename = "allow_internet_access")]
    _allow_internet_access: Option<bool>,
    network: Option<Network>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    #[serde(default)]
    env_vars: BTreeMap<String, String>,
    mcp: Option<Value>,
    iam: Option<Value>,
    volume_mounts: Option<Vec<Value>>,
    /// Every sandbox is.
    #[serde(rename = "secure")]
    _secure: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AutoResume {
    enabled: bool,
}

impl NewSandbox {
    fn at_end(&self) -> AtEnd {
        match (self.auto_pause, self.auto_pause_memory) {
            (Some(false), _) => AtEnd::Delete,
            (Some(true), None | Some(true)) => AtEnd::Freeze,
            // Nobody asked for its work to be lost.
            (Some(true), Some(false)) | (None, _) => AtEnd::Hibernate,
        }
    }

    /// Labels of the session: the metadata that can be one. All of it is kept with the lease.
    fn labels(&self) -> BTreeMap<String, String> {
        let fit = |(key, value): &(&String, &String)| {
            validate::label(key, value).is_ok() && *key != TEMPLATE_LABEL
        };
        let own = self.metadata.iter().filter(fit).take(MAX_LABELS);
        let own = own.map(|(key, value)| (key.clone(), value.clone()));
        let template = self.template().to_owned();
        let template = (TEMPLATE_LABEL.to_owned(), template);
        let known = validate::label(&template.0, &template.1).is_ok().then_some(template);
        own.chain(known).collect()
    }

    fn template(&self) -> &str {
        if self.template.is_empty() { BASE } else { &self.template }
    }
}

/// Whether a template is the one there is.
pub(super) fn is_base(template: &str) -> bool {
    // A tag may stand behind a colon; there is but one build.
    let name = template.split_once(':').map_or(template, |(name, _)| name);
    matches!(name, "" | BASE)
}

/// Checks a time in seconds.
pub(super) fn check_timeout(seconds: u32) -> Result<u32> {
    if (1..=MAX_TIMEOUT).contains(&seconds) {
        return Ok(seconds);
    }
    Err(Refusal::invalid(format!("timeout: must be 1 to {MAX_TIMEOUT} seconds, not {seconds}")))
}

impl Validate for NewSandbox {
    fn validate(&self) -> Result<()> {
        self.timeout.map_or(Ok(0), check_timeout)?;
        let none = |value: &Option<Value>| value.as_ref().is_none_or(Value::is_null);
        let refuse = |what: &str| {
            Err(Refusal::invalid(format!("{what}: this server has none; leave it out")))
        };
        if !none(&self.mcp) {
            return refuse("mcp");
        }
        if !none(&self.iam) {
            return refuse("iam");
        }
        if self.volume_mounts.as_ref().is_some_and(|mounts| !mounts.is_empty()) {
            return refuse("volumeMounts");
        }
        if self.auto_pause_memory == Some(false) {
            if self.auto_pause != Some(true) {
                return Err(Refusal::invalid("autoPauseMemory: false needs autoPause"));
            }
            if self.auto_resume.as_ref().is_some_and(|it| it.enabled) {
                let text = "autoPauseMemory: false and autoResume exclude each other";
                return Err(Refusal::invalid(text));
            }
        }
        let bytes: usize = self.metadata.iter().map(|(k, v)| k.len() + v.len()).sum();
        if self.metadata.len() > MAX_METADATA || bytes > MAX_METADATA_BYTES {
            let text = format!(
                "metadata: may have {MAX_METADATA} entries of {MAX_METADATA_BYTES} bytes in all"
            );
            return Err(Refusal::invalid(text));
        }
        self.network.as_ref().map_or(Ok(()), Network::check)?;
        // What a session checks of its environment.
        CreateSession { env: self.env_vars.clone(), ..CreateSession::default() }.validate()
    }
}

/// Makes a sandbox and answers once it is up.
pub(super) async fn create(
    State(api): State<Api>,
    JsonOnce(request, once): JsonOnce<NewSandbox>,
) -> Result<(StatusCode, Answer<Made>)> {
    made(&api, request, once, TIMEOUT).await
}

/// As old SDKs ask for it.
pub(super) async fn create_v1(
    State(api): State<Api>,
    JsonOnce(request, once): JsonOnce<NewSandbox>,
) -> Result<(StatusCode, Answer<Made>)> {
    made(&api, request, once, TIMEOUT_V1).await
}

async fn made(
    api: &Api,
    request: NewSandbox,
    once: Option<Idempotency>,
    default: u32,
) -> Result<(StatusCode, Answer<Made>)> {
    let terms = Terms {
        template: request.template().to_owned(),
        metadata: request.metadata.clone(),
        env: request.env_vars.clone(),
        seconds: request.timeout.unwrap_or(default),
        at_end: request.at_end(),
        auto_resume: request.auto_resume.as_ref().is_some_and(|it| it.enabled),
    };
    let session = session(api, request, once).await?;
    // A repeated request finds the lease that the first one made.
    let lease = if let Ok(lent) = api.sessions.lent(&session).await {
        lent.lease
    } else {
        // Its sandbox comes up meanwhile.
        let (lease, up) =
            tokio::join!(api.sessions.lend(&session, terms), api.sessions.open(&session));
        let lease = lease?;
        if let Err(problem) = up {
            let _already_failed = api.sessions.delete(&session).await;
            return Err(problem.into());
        }
        lease
    };
    Ok((StatusCode::CREATED, Answer(Made::of(api, &lease))))
}

/// The session to lend out: a new one, or one made of a snapshot.
async fn session(api: &Api, request: NewSandbox, once: Option<Idempotency>) -> Result<SessionId> {
    if is_base(&request.template) {
        let life = LifePolicy {
            // Until the lease is written: it says the same.
            keep_alive_seconds: Some(request.timeout.unwrap_or(TIMEOUT)),
            ..LifePolicy::default()
        };
        let new = CreateSession {
            labels: request.labels(),
            env: request.env_vars,
            // E2B's sandboxes have a root that everybody may be.
            allow_root: true,
            life,
            ..CreateSession::default()
        };
        return Ok(api.sessions.create(new, once).await?.id);
    }
    let unknown = || {
        let text = format!(
            "template '{}' not found; there is '{BASE}', and every snapshot by its id",
            request.template
        );
        Refusal::new(ErrorCode::TemplateNotFound, text)
    };
    let kept = id::checkpoint(&request.template).ok_or_else(unknown)?;
    let parent = api.sessions.session_of(&kept).await.map_err(|_| unknown())?;
    let fork = Fork { at: Some(kept), count: Some(1), ..Fork::default() };
    let made = api.sessions.fork(&parent, fork, once).await?;
    Ok(made.into_iter().next().ok_or_else(unknown)?.id)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(value: Value) -> Result<NewSandbox, String> {
        let request: NewSandbox =
            serde_json::from_value(value).map_err(|error| error.to_string())?;
        request.validate().map_err(|refusal| refusal.0.detail)?;
        Ok(request)
    }

    #[test]
    fn what_the_sdks_send_at_least_is_enough() {
        for body in [json!({"templateID": "base"}), json!({"templateID": "", "metadata": {}})] {
            let request = asked(body).unwrap();
            assert_eq!((request.at_end(), request.template()), (AtEnd::Hibernate, "base"));
        }
    }

    #[test]
    fn what_cannot_be_done_is_refused_and_never_passed_over() {
        for body in [
            json!({"templateID": "base", "mcp": {"github": {}}}),
            json!({"templateID": "base", "iam": {"tokens": {}}}),
            json!({"templateID": "base", "volumeMounts": [{"name": "v", "path": "/v"}]}),
            json!({"templateID": "base", "network": {"allowOut": ["example.org"]}}),
            json!({"templateID": "base", "somethingNew": true}),
            json!({"templateID": "base", "timeout": 0}),
            json!({"templateID": "base", "autoPauseMemory": false}),
            json!({"templateID": "base", "envVars": {"A=B": "c"}}),
        ] {
            assert!(asked(body.clone()).is_err(), "{body}");
        }
        let empty = json!({"templateID": "base", "mcp": null, "volumeMounts": []});
        assert!(asked(empty).is_ok());
    }

    #[test]
    fn only_who_writes_it_out_has_a_sandbox_deleted_at_its_end() {
        let end = |value: Value| {
            let mut body = json!({"templateID": "base"});
            body.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
            asked(body).unwrap().at_end()
        };
        assert_eq!(end(json!({})), AtEnd::Hibernate);
        assert_eq!(end(json!({"autoPause": false})), AtEnd::Delete);
        assert_eq!(end(json!({"autoPause": true})), AtEnd::Freeze);
        let files = json!({"autoPause": true, "autoPauseMemory": false});
        assert_eq!(end(files), AtEnd::Hibernate);
    }

    #[test]
    fn metadata_that_can_be_a_label_is_one() {
        let body = json!({"templateID": "base", "metadata": {
            "user": "me", "a b": "c", "long": "x".repeat(5000)
        }});
        let labels = asked(body).unwrap().labels();
        let labels: Vec<_> = labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(labels, [("e2b.template", "base"), ("user", "me")]);
    }
}
