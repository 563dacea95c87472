"""Who may do what: principals, admission, sessions, lists, reach, audit."""
