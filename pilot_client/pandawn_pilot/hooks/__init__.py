"""The command `pandawn-pcache-hook`, which reports other caches of a node to the catalog."""
