"""The state directory and the files of jobs."""
