"""The user's program: how it is started, watched, limited and ended."""
