"""The methods of QueueConfig about access lists."""
