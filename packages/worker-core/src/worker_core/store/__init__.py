"""The durable store: SQLite, its tables, and its backups."""
