"""One job on its way: its directory, inputs, sandbox, outputs, log and report."""
