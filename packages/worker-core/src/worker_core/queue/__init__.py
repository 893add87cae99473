"""Which queued job starts next. Nothing here does I/O."""
