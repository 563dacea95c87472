"""`pandawn demo`: a server, three nodes, and a real analysis, on one machine."""
