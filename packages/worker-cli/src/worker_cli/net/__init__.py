"""Requests to one server: TLS, retries, and the translation of failures into errors."""
