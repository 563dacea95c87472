"""The matching of one queue, fed step by step: which runnable job goes to which node. In memory, without I/O."""
