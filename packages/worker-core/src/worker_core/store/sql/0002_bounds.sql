-- What a job was allowed, what enforced it, who it ran as, and more of what it used.
ALTER TABLE jobs ADD COLUMN run_as TEXT;
ALTER TABLE jobs ADD COLUMN enforced TEXT;
ALTER TABLE jobs ADD COLUMN read_bytes INTEGER;
ALTER TABLE jobs ADD COLUMN written_bytes INTEGER;
ALTER TABLE jobs ADD COLUMN max_processes INTEGER;

CREATE INDEX jobs_ended ON jobs (ended_at) WHERE ended_at IS NOT NULL;
