-- How the end of a job is wanted, so that a kill that did not arrive can be sent again as it was.
ALTER TABLE jobs ADD COLUMN kill_signal INTEGER;
ALTER TABLE jobs ADD COLUMN kill_grace REAL;
