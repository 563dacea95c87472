"""The `pandawn` command line."""

import os

# gRPC reads it when it is imported. Its own lines about failed connections say nothing that is not said
# better by an error of ours.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
