-- What finished jobs are found and counted by, so that no request reads them all.

CREATE INDEX jobs_final ON jobs (owner, state) WHERE ended_at IS NOT NULL;
CREATE INDEX jobs_name ON jobs (owner, name) WHERE name IS NOT NULL;

-- Each label of each job, as it is written in the JSON of its spec ("key":"value"), its first 200
-- characters.
CREATE TABLE labels (
    owner  TEXT NOT NULL,
    label  TEXT NOT NULL,
    seq    INTEGER NOT NULL,
    PRIMARY KEY (owner, label, seq)
) STRICT, WITHOUT ROWID;

INSERT INTO labels
SELECT jobs.owner, label.value, jobs.seq FROM jobs, json_each(label_texts(jobs.spec)) AS label;

-- Every job before `seq` was created before `at`, also when the clock was set back: a mark is made
-- only when a job is a minute later than the last mark. So a search by time begins at a mark.
CREATE TABLE created_marks (
    at   REAL PRIMARY KEY,
    seq  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO created_marks
SELECT latest, min(seq)
FROM (SELECT seq, max(created_at) OVER (ORDER BY seq) AS latest FROM jobs)
GROUP BY CAST(latest / 60 AS INTEGER);

CREATE TRIGGER jobs_created AFTER INSERT ON jobs
WHEN NEW.created_at > coalesce((SELECT max(at) + 60 FROM created_marks), -1e300)
BEGIN
    INSERT INTO created_marks (at, seq) VALUES (NEW.created_at, NEW.seq);
END;

-- How many finished jobs there are, and the bytes of their output on the disk.
CREATE TABLE finished_totals (
    owner         TEXT NOT NULL,
    state         TEXT NOT NULL,
    jobs          INTEGER NOT NULL,
    output_bytes  INTEGER NOT NULL,
    PRIMARY KEY (owner, state)
) STRICT, WITHOUT ROWID;

INSERT INTO finished_totals
SELECT owner, state, count(*), sum(output_bytes) FROM jobs
WHERE ended_at IS NOT NULL GROUP BY owner, state;

CREATE TRIGGER finished_insert AFTER INSERT ON jobs WHEN NEW.ended_at IS NOT NULL
BEGIN
    INSERT INTO finished_totals VALUES (NEW.owner, NEW.state, 1, NEW.output_bytes)
    ON CONFLICT DO UPDATE
    SET jobs = jobs + 1, output_bytes = output_bytes + excluded.output_bytes;
END;

CREATE TRIGGER finished_end AFTER UPDATE ON jobs
WHEN OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL
BEGIN
    INSERT INTO finished_totals VALUES (NEW.owner, NEW.state, 1, NEW.output_bytes)
    ON CONFLICT DO UPDATE
    SET jobs = jobs + 1, output_bytes = output_bytes + excluded.output_bytes;
END;

CREATE TRIGGER finished_change AFTER UPDATE ON jobs
WHEN OLD.ended_at IS NOT NULL AND (
    NEW.ended_at IS NULL OR NEW.state <> OLD.state OR NEW.output_bytes <> OLD.output_bytes
)
BEGIN
    UPDATE finished_totals
    SET jobs = jobs - 1, output_bytes = output_bytes - OLD.output_bytes
    WHERE owner = OLD.owner AND state = OLD.state;
    INSERT INTO finished_totals
    SELECT NEW.owner, NEW.state, 1, NEW.output_bytes WHERE NEW.ended_at IS NOT NULL
    ON CONFLICT DO UPDATE
    SET jobs = jobs + 1, output_bytes = output_bytes + excluded.output_bytes;
END;

CREATE TRIGGER finished_delete AFTER DELETE ON jobs WHEN OLD.ended_at IS NOT NULL
BEGIN
    UPDATE finished_totals
    SET jobs = jobs - 1, output_bytes = output_bytes - OLD.output_bytes
    WHERE owner = OLD.owner AND state = OLD.state;
END;

-- Jobs whose record was removed, until their directory is removed as well.
CREATE TABLE removals (
    id  TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
