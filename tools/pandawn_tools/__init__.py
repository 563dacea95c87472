"""Tools of users and operators around a Pandawn server."""
