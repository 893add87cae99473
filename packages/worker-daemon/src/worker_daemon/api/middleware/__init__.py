"""Middleware: what runs before and after the resource of every request."""
