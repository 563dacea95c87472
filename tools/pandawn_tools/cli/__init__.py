"""The `pandawn` command line."""

import os

# gRPC reads it when it is imported. Its own lines about failed connections say nothing that is not said
# better by an error of ours.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
# Typer reads it when it is imported. With rich it would import a Markdown parser and a syntax highlighter for
# help, usage errors and each completion; see `helptext`.
os.environ.setdefault("TYPER_USE_RICH", "0")
