"""SQL about pins. The catalog itself is in memcached."""
