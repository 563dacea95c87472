"""What users do with their work: submit, read, cancel, retry, upload code."""
