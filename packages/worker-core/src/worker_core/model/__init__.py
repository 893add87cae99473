"""The values that describe a job. Nothing here does I/O."""
