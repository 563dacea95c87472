"""What is reported of what happened."""
