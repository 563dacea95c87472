"""The command `pandawn-pcache-hook`, by which other caches of a node tell the catalog what they hold."""
