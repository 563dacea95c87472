"""What runs on a worker node: the pilot, its cache of input files and the pcache hook."""

import os

# Silences gRPC's own lines on the standard error: errors of calls carry the same text.
# gRPC reads the variable when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
