"""The process that touches storage for the pilot, which can be left behind where the storage hangs.

Standard library only, and as little of that as can be: it is started with `python -I -S`.
"""
