"""Values of the file catalog: files, their versions, and caches."""
