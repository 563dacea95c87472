"""SQL: the schema, and functions with one statement each, which use the caller's transaction."""
