-- Times are microseconds since 1970 (UTC), money is millionths of a US dollar, ids are prefixed
-- UUIDv7 text and so sort by age. Enumerations are the words of the API. Columns of JSON are
-- written and read by the program alone; no query looks into them.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

CREATE TABLE session (
    id               TEXT PRIMARY KEY,
    name             TEXT NOT NULL,
    desired          TEXT NOT NULL,
    generation       INTEGER NOT NULL,
    settings         TEXT NOT NULL,
    base_commit      TEXT,
    branch           TEXT,
    checkout         TEXT,
    failure          TEXT,
    agent_session_id TEXT,
    last_seq         INTEGER NOT NULL,
    cost_micros      INTEGER NOT NULL,
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL,
    deleted_at       INTEGER
) STRICT;
-- A name is free again as soon as its owner asked for the deletion.
CREATE UNIQUE INDEX session_name ON session (name) WHERE desired <> 'deleted';
CREATE INDEX session_live ON session (id) WHERE deleted_at IS NULL;

CREATE TABLE session_label (
    session TEXT NOT NULL REFERENCES session (id),
    key     TEXT NOT NULL,
    value   TEXT NOT NULL,
    PRIMARY KEY (session, key)
) STRICT;
CREATE INDEX session_label_value ON session_label (key, value, session);

CREATE TABLE sandbox (
    id           TEXT PRIMARY KEY,
    session      TEXT NOT NULL REFERENCES session (id),
    provider     TEXT NOT NULL,
    provider_ref TEXT,
    phase        TEXT NOT NULL,
    generation   INTEGER NOT NULL,
    token        TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL
) STRICT;
CREATE INDEX sandbox_session ON sandbox (session, id);
CREATE INDEX sandbox_existing ON sandbox (id) WHERE phase <> 'destroyed';

CREATE TABLE turn (
    id         TEXT PRIMARY KEY,
    session    TEXT NOT NULL REFERENCES session (id),
    number     INTEGER NOT NULL,
    text       TEXT NOT NULL,
    steer      INTEGER NOT NULL,
    input      TEXT NOT NULL,
    state      TEXT NOT NULL,
    outcome    TEXT,
    failure    TEXT,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    ended_at   INTEGER,
    UNIQUE (session, number)
) STRICT;
CREATE INDEX turn_open ON turn (session, number) WHERE state <> 'ended';

-- `bytes` stands before `body` so that adding up sizes never touches a body's overflow pages.
CREATE TABLE event (
    session TEXT NOT NULL REFERENCES session (id),
    seq     INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    turn    TEXT,
    bytes   INTEGER NOT NULL,
    body    TEXT NOT NULL,
    UNIQUE (session, seq)
) STRICT;

CREATE TABLE agent_link (
    session       TEXT PRIMARY KEY REFERENCES session (id),
    exec_id       TEXT NOT NULL,
    sandbox       TEXT NOT NULL,
    stdout_offset INTEGER NOT NULL,
    stderr_offset INTEGER NOT NULL,
    translator    TEXT NOT NULL,
    stdin_next    INTEGER NOT NULL,
    started_at    INTEGER NOT NULL
) STRICT;

CREATE TABLE agent_input (
    session      TEXT NOT NULL REFERENCES session (id),
    start_offset INTEGER NOT NULL,
    end_offset   INTEGER NOT NULL,
    data         BLOB NOT NULL,
    UNIQUE (session, start_offset)
) STRICT;

CREATE TABLE approval (
    id            TEXT PRIMARY KEY,
    session       TEXT NOT NULL REFERENCES session (id),
    turn          TEXT,
    state         TEXT NOT NULL,
    body          TEXT NOT NULL,
    agent_request TEXT NOT NULL,
    agent_payload TEXT NOT NULL,
    decision      TEXT,
    created_at    INTEGER NOT NULL,
    resolved_at   INTEGER
) STRICT;
CREATE INDEX approval_pending ON approval (session, id) WHERE state = 'pending';
CREATE INDEX approval_request ON approval (session, agent_request);

CREATE TABLE exec (
    id         TEXT PRIMARY KEY,
    session    TEXT NOT NULL REFERENCES session (id),
    sandbox    TEXT NOT NULL,
    command    TEXT NOT NULL,
    state      TEXT NOT NULL,
    exit_code  INTEGER,
    signal     INTEGER,
    started_at INTEGER NOT NULL,
    ended_at   INTEGER
) STRICT;
CREATE INDEX exec_session ON exec (session, id);
CREATE INDEX exec_running ON exec (sandbox) WHERE state = 'running';

CREATE TABLE usage (
    id                   TEXT PRIMARY KEY,
    session              TEXT NOT NULL REFERENCES session (id),
    turn                 TEXT,
    agent_id             TEXT,
    model                TEXT NOT NULL,
    input                INTEGER NOT NULL,
    output               INTEGER NOT NULL,
    cache_read           INTEGER NOT NULL,
    cache_write_5m       INTEGER NOT NULL,
    cache_write_1h       INTEGER NOT NULL,
    server_tool_requests INTEGER NOT NULL,
    cost_micros          INTEGER NOT NULL,
    price_version        TEXT NOT NULL,
    price_estimated      INTEGER NOT NULL,
    status               INTEGER NOT NULL,
    upstream_request     TEXT,
    started_at           INTEGER NOT NULL,
    ended_at             INTEGER NOT NULL,
    interrupted          INTEGER NOT NULL
) STRICT;
CREATE INDEX usage_session ON usage (session, started_at);
CREATE INDEX usage_turn ON usage (turn) WHERE turn IS NOT NULL;

CREATE TABLE api_key (
    id           TEXT PRIMARY KEY,
    name         TEXT NOT NULL,
    hint         TEXT NOT NULL,
    hash         BLOB NOT NULL UNIQUE,
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER,
    revoked_at   INTEGER
) STRICT;

CREATE TABLE idempotency (
    key        TEXT PRIMARY KEY,
    digest     BLOB NOT NULL,
    response   TEXT,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX idempotency_age ON idempotency (created_at);
