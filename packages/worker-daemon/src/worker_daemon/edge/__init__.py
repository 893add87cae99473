"""The HTTPS server: connections, TLS, HTTP/1.1. Only this package imports waitress."""
