"""SQL of pins. The catalog itself is in memory or memcached."""
