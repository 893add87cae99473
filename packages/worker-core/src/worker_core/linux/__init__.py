"""Linux calls and files that the standard library does not cover."""
