"""The methods of QueueConfig about worker nodes."""
