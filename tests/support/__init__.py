"""Helpers that the tests of more than one distribution share."""
