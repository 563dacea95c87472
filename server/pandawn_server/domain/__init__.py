"""The rules of the system as pure functions and frozen values: standard library only, no clock, no I/O."""
