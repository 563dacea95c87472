"""The node's own cache of input files, shared by all its pilots."""
