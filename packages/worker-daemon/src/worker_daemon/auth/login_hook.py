"""The entry of the WSGI environment that connects the server with the check of logins."""

LOGGED_IN = "worker_daemon.logged_in"
"""A function of the server. The check of logins calls it when a login is verified, with the user's
name and a function that returns whether the login is still valid. The server asks that function
while it sends the response.
"""
