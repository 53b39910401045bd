//! The contract, `OpenAPI` 3.1.
//!
//! Handlers describe what is their own. What follows from a rule is added here by rule, so that
//! no operation can forget it: parameters in the path, the idempotency key of every `POST`, the
//! problems a request may meet, the other names of the original API.

use std::sync::LazyLock;

use utoipa::{
    OpenApi, ToSchema,
    openapi::{
        Components, Content, HeaderBuilder, ObjectBuilder, Ref, RefOr, Required, ResponseBuilder,
        Schema, Type,
        path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem},
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use super::{extract::IDEMPOTENCY_KEY, health, original::ALIASES, problem::PROBLEM_JSON};

/// Its name in the contract.
const BEARER: &str = "bearer";
const PROBLEM: &str = "Problem";
const TOO_LONG: &str = "TooLong";

/// Bytes as they are.
#[derive(Debug, ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "names a schema; bodies of bytes are streams")]
pub(super) struct Octets(Vec<u8>);

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Remote Claude",
        description = "Runs coding agents in sandboxes, and keeps all they do in one ordered, \
            durable log per session.\n\n\
            A session in a path may be named by its id, by the unique beginning of its id, or by \
            its name. Errors are problem details (RFC 9457) with a stable `code`. Every answer \
            has an `x-request-id`; a request may bring its own. A `POST` with an \
            `idempotency-key` may be repeated without being done twice.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    tags(
        (name = "sessions", description = "The durable thing its owner sees."),
        (name = "turns", description = "Prompts and what became of them."),
        (name = "approvals", description = "What the agent asks, and the answers."),
        (name = "checkpoints", description = "A session's earlier states, and what can be made of them."),
        (name = "events", description = "Everything a session does, in order."),
        (name = "execs", description = "Commands run in a session from outside."),
        (name = "terminals", description = "Shells that outlive whoever looks at them."),
        (name = "ports", description = "What listens in a session, and ways to it."),
        (name = "files", description = "A session's files, and how they differ from where they began."),
        (name = "keys", description = "API keys, and public keys for SSH."),
        (name = "storage", description = "What sessions take up, archives and backups."),
        (name = "server", description = "The server itself."),
        (name = "original", description = "The endpoints of the original API, under their names."),
    ),
    components(schemas(rclaude_types::Problem, rclaude_types::TerminalControl)),
    security(("bearer" = []))
)]
struct Contract;

/// The contract as text.
pub fn json() -> &'static str {
    static JSON: LazyLock<String> = LazyLock::new(|| {
        let mut text = document().to_pretty_json().expect("maps with text keys become JSON");
        text.push('\n');
        text
    });
    &JSON
}

/// The contract.
pub(super) fn document() -> utoipa::openapi::OpenApi {
    let routes = super::public().merge(health::metrics_routes()).merge(super::private());
    let mut document = Contract::openapi();
    document.merge(routes.into_openapi());
    components(document.components.get_or_insert_default());
    let paths = &mut document.paths.paths;
    for (path, item) in paths.iter_mut() {
        for (method, operation) in operations(item) {
            if let Some(operation) = operation {
                complete(path, method, operation);
            }
        }
    }
    for (alias, path, methods) in ALIASES {
        if let Some(item) = paths.get(path).cloned() {
            paths.insert(alias.to_owned(), renamed(item, methods));
        }
    }
    document
}

fn operations(item: &mut PathItem) -> [(&'static str, &mut Option<Operation>); 5] {
    [
        ("get", &mut item.get),
        ("put", &mut item.put),
        ("post", &mut item.post),
        ("patch", &mut item.patch),
        ("delete", &mut item.delete),
    ]
}

fn components(components: &mut Components) {
    components.add_security_scheme(
        BEARER,
        SecurityScheme::Http(
            HttpBuilder::new()
                .scheme(HttpAuthScheme::Bearer)
                .description(Some(
                    "The owner's token (the file `token` in the server's data directory) or an \
                     API key (`rck_…`).",
                ))
                .build(),
        ),
    );
    let request_id = HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .description(Some("The request's id, to find it in the server's log."))
        .build();
    let problem = ResponseBuilder::new()
        .description("What was wrong, and what to do about it.")
        .content(PROBLEM_JSON, Content::new(Some(Ref::from_schema_name(PROBLEM))))
        .header("x-request-id", request_id)
        .build();
    components.responses.insert(PROBLEM.to_owned(), RefOr::T(problem));
    let too_long = ResponseBuilder::new()
        .description(
            "The request's line is longer than 64 KiB, or with its headers than 128 KiB: nothing \
             was done.",
        )
        .build();
    components.responses.insert(TOO_LONG.to_owned(), RefOr::T(too_long));
}

/// Adds what follows from an operation's path, method and body.
fn complete(path: &str, method: &str, operation: &mut Operation) {
    let parameters = operation.parameters.get_or_insert_default();
    let named = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    for (index, name) in named.enumerate() {
        parameters.insert(index, RefOr::T(in_path(name)));
    }
    if method == "post" {
        parameters.push(RefOr::T(idempotency_key()));
    }
    for status in problems(path, method, operation) {
        let problem = RefOr::Ref(Ref::from_response_name(PROBLEM));
        operation.responses.responses.entry(status.to_string()).or_insert(problem);
    }
    if takes_a_query(operation) {
        // From the HTTP library, which reads no further.
        for status in ["414", "431"] {
            let too_long = RefOr::Ref(Ref::from_response_name(TOO_LONG));
            operation.responses.responses.insert(status.to_owned(), too_long);
        }
    }
}

fn takes_a_query(operation: &Operation) -> bool {
    operation.parameters.iter().flatten().any(|parameter| {
        matches!(parameter, RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Query)
    })
}

fn in_path(name: &str) -> Parameter {
    let (schema, about): (RefOr<Schema>, _) = match name {
        "turn" => (Ref::from_schema_name("TurnId").into(), "The turn's id."),
        "approval" => (Ref::from_schema_name("ApprovalId").into(), "The approval's id."),
        "checkpoint" => (Ref::from_schema_name("CheckpointId").into(), "The checkpoint's id."),
        "exec" => (Ref::from_schema_name("ExecId").into(), "The command's id."),
        "terminal" => (Ref::from_schema_name("TerminalId").into(), "The terminal's id."),
        "key" => (Ref::from_schema_name("KeyId").into(), "The key's id."),
        "ssh_key" => (Ref::from_schema_name("SshKeyId").into(), "The key's id."),
        "port" => (
            ObjectBuilder::new()
                .schema_type(Type::Integer)
                .minimum(Some(1))
                .maximum(Some(65_535))
                .build()
                .into(),
            "The port's number.",
        ),
        _ => (
            ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).build().into(),
            "The session: its id, the unique beginning of its id, or its name.",
        ),
    };
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(about))
        .schema(Some(schema))
        .build()
}

fn idempotency_key() -> Parameter {
    let schema = ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some("^[!-~]{1,255}$"))
        .min_length(Some(1))
        .max_length(Some(255));
    ParameterBuilder::new()
        .name(IDEMPOTENCY_KEY)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "Chosen by the caller; the same request under the same key is done once, and the same \
             key with another request is refused.",
        ))
        .schema(Some(schema))
        .build()
}

/// The statuses under which an operation may answer with a problem.
fn problems(path: &str, method: &str, operation: &Operation) -> Vec<u16> {
    // The guards at the door may refuse anything; so may a bug.
    let mut statuses = vec![400, 403, 500];
    let public = operation.security.is_some();
    if !public {
        statuses.extend([401, 503]);
    }
    if path == "/readyz" {
        statuses.push(503);
    }
    // Making a session looks for its template, verifying for a backup.
    let looks = [("/v1/sessions", "post"), ("/v1/backups/verify", "post")];
    if path.contains('{') || looks.contains(&(path, method)) {
        statuses.push(404);
    }
    let in_session = path.contains("{session}");
    let changes = method != "get";
    if in_session || changes {
        statuses.push(409);
    }
    if in_session {
        // A repository that cannot be read, an exec in a sandbox whose disk is full: whatever
        // wakes a session may meet what making it can meet.
        statuses.extend([422, 507]);
    } else if changes && !public {
        statuses.extend([422, 507]);
    }
    if let Some(RefOr::T(body)) = &operation.request_body {
        statuses.push(413);
        if body.content.contains_key("application/json") {
            statuses.push(415);
        }
    }
    let conditional =
        operation.parameters.iter().flatten().any(
            |parameter| matches!(parameter, RefOr::T(parameter) if parameter.name == "if-match"),
        );
    if conditional || path.ends_with("/files/append") {
        statuses.push(412);
    }
    if operation.responses.responses.contains_key("206") {
        statuses.push(416);
    }
    statuses
}

/// The same operations under another name.
fn renamed(mut item: PathItem, methods: &[&str]) -> PathItem {
    for (method, operation) in operations(&mut item) {
        if !methods.contains(&method) {
            *operation = None;
        } else if let Some(operation) = operation {
            let id = operation.operation_id.take().unwrap_or_default();
            operation.operation_id = Some(format!("original_{id}"));
            operation.tags = Some(vec!["original".to_owned()]);
        }
    }
    item
}
