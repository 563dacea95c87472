"""SQL about tasks, jobs and their files."""
