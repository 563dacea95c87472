"""SQL: the schema and one statement a function. Functions take the caller's transaction and never open one."""
