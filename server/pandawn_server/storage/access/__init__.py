"""SQL about access lists, limits, sessions and the audit."""
