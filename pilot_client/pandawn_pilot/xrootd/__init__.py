"""XRootD servers as seen from a worker node: their commands, their inventory, the one on the node itself."""
