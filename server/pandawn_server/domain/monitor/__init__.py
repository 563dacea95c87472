"""Events of the monitor."""
