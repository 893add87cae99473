"""How connections, handshakes and log lines are shared out among networks and users."""
