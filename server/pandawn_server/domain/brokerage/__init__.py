"""The matching of one queue, fed step by step: which waiting job goes to which node. In memory, without I/O.

`engine.Brokerage` is the door. The rules are those of `domain.matching`; what is here finds the
jobs to which they apply without looking at all of them.
"""
