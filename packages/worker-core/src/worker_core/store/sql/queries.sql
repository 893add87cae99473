-- name: insert_long_spec
INSERT INTO long_specs (id, spec) VALUES (:id, :spec);

-- name: long_spec
SELECT spec FROM long_specs WHERE id = :id;

-- name: long_spec_bytes
SELECT length(spec) FROM long_specs WHERE id = :id;

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

-- name: owners
WITH RECURSIVE owners (owner) AS (
    SELECT min(owner) FROM jobs
    UNION ALL
    SELECT (SELECT min(owner) FROM jobs WHERE jobs.owner > owners.owner) FROM owners
    WHERE owners.owner IS NOT NULL
)
SELECT owner FROM owners WHERE owner IS NOT NULL;

-- name: last_version
WITH RECURSIVE owners (owner) AS (
    SELECT min(owner) FROM jobs
    UNION ALL
    SELECT (SELECT min(owner) FROM jobs WHERE jobs.owner > owners.owner) FROM owners
    WHERE owners.owner IS NOT NULL
)
SELECT coalesce(
    max((SELECT max(version) FROM jobs WHERE jobs.owner = owners.owner)), 0
) FROM owners;

-- name: ids
SELECT group_concat(id, '/') FROM jobs;

-- name: finished_oldest_first
SELECT id, owner, ended_at, output_bytes FROM jobs WHERE ended_at IS NOT NULL ORDER BY ended_at;

-- name: kept
SELECT owner, sum(jobs), sum(output_bytes) FROM finished_totals GROUP BY owner;

-- name: totals
SELECT state, sum(jobs), sum(output_bytes) FROM finished_totals GROUP BY state
UNION ALL
SELECT state, count(*), 0 FROM jobs WHERE state IN ('queued', 'running', 'stopping')
GROUP BY state;

-- name: created_mark
SELECT seq FROM created_marks WHERE at <= :since ORDER BY at DESC LIMIT 1;

-- name: delete_created_marks
DELETE FROM created_marks
WHERE seq < (SELECT min(seq) FROM jobs) AND at < (SELECT max(at) FROM created_marks);

-- name: insert_label
INSERT INTO labels (owner, label, seq) VALUES (:owner, :label, :seq);

-- name: get_meta
SELECT value FROM meta WHERE key = :key;

-- name: set_meta
INSERT INTO meta (key, value) VALUES (:key, :value)
ON CONFLICT (key) DO UPDATE SET value = excluded.value;

-- name: delete_labels
DELETE FROM labels WHERE (owner, label, seq) IN (
    SELECT jobs.owner, label.value, jobs.seq
    FROM jobs, json_each(label_texts(jobs.spec)) AS label
    WHERE jobs.id IN (SELECT value FROM json_each(:ids)) AND jobs.ended_at IS NOT NULL
);

-- name: only_finished
SELECT id FROM jobs
WHERE id IN (SELECT value FROM json_each(:ids)) AND ended_at IS NOT NULL
AND NOT EXISTS (SELECT 1 FROM dependencies WHERE parent = jobs.id);

-- name: delete_jobs
DELETE FROM jobs
WHERE id IN (SELECT value FROM json_each(:ids)) AND ended_at IS NOT NULL;

-- name: delete_long_specs
DELETE FROM long_specs WHERE id IN (SELECT value FROM json_each(:ids));

-- name: insert_removals
INSERT INTO removals (id) SELECT value FROM json_each(:ids) WHERE TRUE ON CONFLICT DO NOTHING;

-- name: removals
SELECT id FROM removals;

-- name: delete_removals
DELETE FROM removals WHERE id IN (SELECT value FROM json_each(:ids));

-- name: any_dependency
SELECT 1 FROM dependencies LIMIT 1;

-- name: insert_dependency
INSERT INTO dependencies (child, parent, condition, fulfilled) VALUES (?, ?, ?, ?)
ON CONFLICT DO NOTHING;

-- name: delete_dependencies
DELETE FROM dependencies WHERE child = :child;

-- name: fulfil_dependency
UPDATE dependencies SET fulfilled = 1
WHERE child = :child AND parent = :parent AND condition = :condition;

-- name: dependents
SELECT child, condition FROM dependencies WHERE parent = :parent AND NOT fulfilled;

-- name: one_dependent
SELECT child FROM dependencies WHERE parent = :parent LIMIT 1;

-- name: pending_dependencies
SELECT child, parent, condition FROM dependencies WHERE NOT fulfilled;

-- name: pending_dependencies_of
SELECT parent, condition FROM dependencies WHERE child = :child AND NOT fulfilled;

-- name: parents_to_look_at
SELECT DISTINCT parent FROM dependencies LEFT JOIN jobs ON jobs.id = parent
WHERE NOT fulfilled AND coalesce(jobs.state, '') <> 'queued';
