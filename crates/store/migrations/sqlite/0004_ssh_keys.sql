-- Public keys that open sessions over SSH. One that is removed is gone.
CREATE TABLE ssh_key (
    id           TEXT PRIMARY KEY,
    name         TEXT NOT NULL,
    public_key   TEXT NOT NULL,
    fingerprint  TEXT NOT NULL UNIQUE,
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER
) STRICT;
