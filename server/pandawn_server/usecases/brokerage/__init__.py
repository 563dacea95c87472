"""Which queue a task goes to."""
