-- Sandboxes lent out through the E2B door, each a session. How long, and what then.
CREATE TABLE lease (
    session     TEXT PRIMARY KEY REFERENCES session (id),
    template    TEXT NOT NULL,
    -- JSON: the caller's own words for it.
    metadata    TEXT NOT NULL,
    -- JSON: environment of the processes that are started through the door.
    env         TEXT NOT NULL,
    ends_at     INTEGER NOT NULL,
    -- 1 while its end is still to come; what is set aside has none.
    armed       INTEGER NOT NULL,
    at_end      TEXT NOT NULL,
    auto_resume INTEGER NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT;
CREATE INDEX lease_armed ON lease (ends_at) WHERE armed = 1;
