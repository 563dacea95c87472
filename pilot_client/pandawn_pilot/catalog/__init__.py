"""What a cache tells the file catalog: the inventory, the journal of its changes, the reports."""
