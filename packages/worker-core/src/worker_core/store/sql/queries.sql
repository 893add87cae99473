-- name: insert_long_spec
INSERT INTO long_specs (id, spec) VALUES (:id, :spec);

-- name: long_spec
SELECT spec FROM long_specs WHERE id = :id;

-- name: long_spec_bytes
SELECT length(spec) FROM long_specs WHERE id = :id;

-- name: delete_long_spec
DELETE FROM long_specs WHERE id = :id;

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
