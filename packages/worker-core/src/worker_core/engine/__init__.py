"""The engine: what programs use of worker_core, and what it is made of."""
