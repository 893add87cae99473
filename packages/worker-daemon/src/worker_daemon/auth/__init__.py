"""Passwords, the users file, and the throttle of failed logins."""
