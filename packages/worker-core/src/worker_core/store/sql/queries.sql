-- name: insert
INSERT INTO jobs (
    id, version, owner, state, name, spec, idempotency_key, spec_hash, created_at, run_as
) VALUES (
    :id, :version, :owner, :state, :name, :spec, :idempotency_key, :spec_hash, :created_at, :run_as
);

-- name: insert_long_spec
INSERT INTO long_specs (id, spec) VALUES (:id, :spec);

-- name: long_spec
SELECT spec FROM long_specs WHERE id = :id;

-- name: long_spec_bytes
SELECT length(spec) FROM long_specs WHERE id = :id;

-- name: delete_long_spec
DELETE FROM long_specs WHERE id = :id;

-- name: update
UPDATE jobs
SET version = :version, state = :state, started_at = :started_at, ended_at = :ended_at, pid = :pid,
    exit_code = :exit_code, signal = :signal, reason = :reason, killed_by = :killed_by,
    kill_by = :kill_by, kill_reason = :kill_reason, kill_signal = :kill_signal,
    kill_grace = :kill_grace, wall_seconds = :wall_seconds,
    user_seconds = :user_seconds, system_seconds = :system_seconds,
    max_rss_bytes = :max_rss_bytes, read_bytes = :read_bytes, written_bytes = :written_bytes,
    max_processes = :max_processes, enforced = :enforced
WHERE id = :id;

-- name: set_output_bytes
UPDATE jobs SET output_bytes = :output_bytes WHERE id = :id;

-- name: get
SELECT * FROM jobs WHERE id = :id;

-- name: by_key
SELECT * FROM jobs WHERE owner = :owner AND idempotency_key = :idempotency_key;

-- name: active
SELECT * FROM jobs WHERE state IN ('queued', 'running', 'stopping') ORDER BY seq;

-- name: changed
SELECT * FROM jobs WHERE owner = :owner AND version > :version ORDER BY version LIMIT :limit;

-- name: last_version
SELECT coalesce(max(version), 0) FROM jobs;

-- name: ids
SELECT id FROM jobs;

-- name: delete
DELETE FROM jobs WHERE id = :id;

-- name: finished_oldest_first
SELECT id, owner, ended_at, output_bytes FROM jobs WHERE ended_at IS NOT NULL ORDER BY ended_at;

-- name: kept
SELECT owner, count(*), sum(output_bytes) FROM jobs WHERE ended_at IS NOT NULL GROUP BY owner;

-- name: totals
SELECT state, count(*), sum(output_bytes) FROM jobs GROUP BY state;

-- name: get_meta
SELECT value FROM meta WHERE key = :key;

-- name: set_meta
INSERT INTO meta (key, value) VALUES (:key, :value)
ON CONFLICT (key) DO UPDATE SET value = excluded.value;
