"""Charles Waldman's pcache, as sites run it: its tree is read, its catalog entries are kept, it serves the pilot."""
