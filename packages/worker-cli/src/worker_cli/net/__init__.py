"""Requests to one server: TLS, retries, and what its answers mean."""
