-- What was called paused ended the processes and kept the disk; that has a word of its own now.
UPDATE sandbox SET phase = 'hibernated' WHERE phase = 'paused';
UPDATE sandbox SET phase = 'hibernating' WHERE phase = 'pausing';
UPDATE session SET desired = 'hibernated' WHERE desired = 'paused';

-- Why it is wanted so, where that was not its owner's wish.
ALTER TABLE session ADD COLUMN desired_reason TEXT;
-- JSON: the session and checkpoint it was made from.
ALTER TABLE session ADD COLUMN origin TEXT;
-- The command that runs the setup script, once it was started.
ALTER TABLE session ADD COLUMN setup_exec TEXT;

-- It was taken back by a rewind.
ALTER TABLE turn ADD COLUMN undone INTEGER NOT NULL DEFAULT 0;

-- JSON: the sealed layers it started on, uppermost first.
ALTER TABLE sandbox ADD COLUMN stack TEXT NOT NULL DEFAULT '[]';

CREATE TABLE checkpoint (
    id            TEXT PRIMARY KEY,
    session       TEXT NOT NULL REFERENCES session (id),
    state         TEXT NOT NULL,
    kind          TEXT NOT NULL,
    note          TEXT,
    -- JSON: what is to be done once it is sealed.
    sequel        TEXT,
    failure       TEXT,
    seq           INTEGER NOT NULL,
    turn          TEXT,
    sandbox       TEXT NOT NULL,
    layer         TEXT NOT NULL,
    -- JSON: all layers it stands on, its own first.
    stack         TEXT NOT NULL,
    -- JSON: conversation, offsets, settings.
    position      TEXT NOT NULL,
    method        TEXT NOT NULL,
    bytes         INTEGER NOT NULL,
    frozen_micros INTEGER NOT NULL,
    stored        INTEGER NOT NULL,
    created_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX checkpoint_session ON checkpoint (session, id);
CREATE INDEX checkpoint_sealed ON checkpoint (session, id) WHERE state = 'sealed';
CREATE INDEX checkpoint_wanted ON checkpoint (session, id) WHERE state = 'wanted';
CREATE INDEX checkpoint_unstored ON checkpoint (id) WHERE state = 'sealed' AND stored = 0;

-- Sealed layers that the snapshot store holds.
CREATE TABLE layer (
    id         TEXT PRIMARY KEY,
    snapshot   TEXT NOT NULL,
    digest     TEXT NOT NULL,
    bytes      INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- How long a session was how far awake: spans that neither overlap nor leave gaps while it has a
-- sandbox. At most one span of a session is open.
CREATE TABLE clock (
    session       TEXT NOT NULL REFERENCES session (id),
    rung          TEXT NOT NULL,
    since         INTEGER NOT NULL,
    upto          INTEGER NOT NULL,
    storage_bytes INTEGER NOT NULL,
    open          INTEGER NOT NULL
) STRICT;
CREATE INDEX clock_session ON clock (session);
CREATE UNIQUE INDEX clock_open ON clock (session) WHERE open = 1;

-- What exists is counted from here on.
INSERT INTO clock (session, rung, since, upto, storage_bytes, open)
SELECT session, CASE phase WHEN 'hibernated' THEN 'hibernated' ELSE 'running' END, now, now, 0, 1
FROM (SELECT id, session, phase, CAST(unixepoch('subsec') * 1000000 AS INTEGER) AS now FROM sandbox) AS existing
WHERE phase IN ('starting', 'running', 'hibernating', 'hibernated', 'resuming')
  AND id = (SELECT max(id) FROM sandbox AS newest WHERE newest.session = existing.session);
