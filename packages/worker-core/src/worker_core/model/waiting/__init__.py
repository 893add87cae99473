"""The fields of a spec that decide when a job starts. Nothing here does I/O."""
