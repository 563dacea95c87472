"""The process that accesses storage for the pilot, and can be abandoned if the storage hangs.

It uses the standard library only, and little of it: it is started with `python -I -S`.
"""
