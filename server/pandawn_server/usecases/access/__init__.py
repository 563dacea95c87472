"""Who may do what: identity, admission, reach, access lists, limits, audit."""
