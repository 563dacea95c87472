"""XRootD servers: their inventory for the catalog, and the server on the node itself."""
