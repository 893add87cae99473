"""Reading the output of jobs, also while it grows."""
