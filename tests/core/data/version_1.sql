-- A state directory's database as version 1 of the schema wrote it. It must open for ever.
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
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
INSERT INTO meta VALUES ('boot_id', '00000000-aaaa-4000-8000-000000000000');
INSERT INTO jobs VALUES (1, '3b1f8a52-6c62-4f5e-9a39-0d8f6a5e7c11', 3, 'alice', 'failed', 'build',
    '{"command":"make","args":["-j8"],"env":{},"cwd":"/srv","stdin":null,"name":"build","labels":{"project":"x"},"timeout":600,"stop_signal":"SIGTERM","stop_grace":10.0,"separate_stderr":false,"output_limit":1073741824}',
    'once', 'hash', 1790000000.0, 1790000000.5, 4000000000.0, 4242, 2, NULL, 'exit code 2', NULL,
    NULL, NULL, 9.5, 8.25, 1.25, 52428800, 4096);
INSERT INTO jobs VALUES (2, '9d7c0b64-1d2f-4b0a-8c3e-5f6a7b8c9d0e', 5, 'alice', 'running', NULL,
    '{"command":"sleep","args":["600"],"env":{},"cwd":null,"stdin":null,"name":null,"labels":{},"timeout":null,"stop_signal":"SIGTERM","stop_grace":10.0,"separate_stderr":false,"output_limit":1073741824}',
    NULL, 'hash', 1790000001.0, 1790000001.5, NULL, 4243, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL, 0);
PRAGMA user_version = 1;
