"""The executors that come with worker_core."""
