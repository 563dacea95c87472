"""Reports a cache to the file catalog: its inventory, the journal of changes, the reports."""
