"""What a queue is, and how its parameters are joined from layers."""
