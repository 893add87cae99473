"""TLS: contexts made from the settings, and the handshake of each connection."""
