"""worker-daemon."""

__version__ = "0.2.0"
