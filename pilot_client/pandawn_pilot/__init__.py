"""What runs on a worker node: the pilot, its cache of input files and the pcache hook."""

import os

# What gRPC itself writes to the standard error, in a form of its own; the errors of calls say it, too.
# It looks at the variable when it is loaded.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
