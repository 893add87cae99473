"""The user interface: tables, progress, help texts and completion."""
