"""Which job goes to which node: asking, matching, handing out, and why."""
