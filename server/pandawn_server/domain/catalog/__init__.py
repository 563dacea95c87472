"""Which files there are and which node holds them."""
