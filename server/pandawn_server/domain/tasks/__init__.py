"""What users submit, and how jobs move."""
