-- One row a job; state, kill_by (what is wanted) and the outcome are separate columns.
CREATE TABLE jobs (
    seq              INTEGER PRIMARY KEY AUTOINCREMENT,
    id               TEXT NOT NULL UNIQUE,
    version          INTEGER NOT NULL,
    owner            TEXT NOT NULL,
    state            TEXT NOT NULL,
    name             TEXT,
    spec             TEXT NOT NULL,
    idempotency_key  TEXT,
    spec_hash        TEXT NOT NULL,
    created_at       REAL NOT NULL,
    started_at       REAL,
    ended_at         REAL,
    pid              INTEGER,
    exit_code        INTEGER,
    signal           INTEGER,
    reason           TEXT,
    killed_by        TEXT,
    kill_by          TEXT,
    kill_reason      TEXT,
    wall_seconds     REAL,
    user_seconds     REAL,
    system_seconds   REAL,
    max_rss_bytes    INTEGER,
    output_bytes     INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE UNIQUE INDEX jobs_idempotency ON jobs (owner, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX jobs_owner ON jobs (owner, seq);
CREATE INDEX jobs_version ON jobs (owner, version);
CREATE INDEX jobs_active ON jobs (seq) WHERE state IN ('queued', 'running', 'stopping');

CREATE TABLE meta (
    key    TEXT PRIMARY KEY,
    value  TEXT NOT NULL
) STRICT;
