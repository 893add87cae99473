-- A long spec is kept apart, with its outline in the job's row: most requests need no more of it.
CREATE TABLE long_specs (
    id    TEXT PRIMARY KEY,
    spec  TEXT NOT NULL
) STRICT;

INSERT INTO long_specs SELECT id, spec FROM jobs WHERE length(spec) > 4096;
UPDATE jobs
SET spec = json_remove(
    spec, '$.command', '$.args', '$.env', '$.cwd', '$.stdin', '$.isolation.writable'
)
WHERE length(spec) > 4096;
