"""Who calls: what a call shows of its caller becomes a principal."""
