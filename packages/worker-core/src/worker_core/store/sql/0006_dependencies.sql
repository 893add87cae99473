-- What waiting jobs wait for of other jobs. A job that has started or ended has no rows as a child.
CREATE TABLE dependencies (
    child      TEXT NOT NULL,
    parent     TEXT NOT NULL,
    condition  TEXT NOT NULL,
    fulfilled  INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (child, parent, condition)
) STRICT, WITHOUT ROWID;

CREATE INDEX dependencies_parent ON dependencies (parent);
