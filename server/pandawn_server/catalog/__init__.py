"""The catalog of node caches behind one Protocol: in this process, or in memcached."""
