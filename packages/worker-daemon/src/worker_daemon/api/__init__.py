"""The HTTP API: a falcon application and its resources."""
