"""The client's settings, saved passwords, and the files they are in."""
