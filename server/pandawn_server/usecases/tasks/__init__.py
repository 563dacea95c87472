"""Use cases of users: submit, read, cancel and retry tasks, and upload code."""
