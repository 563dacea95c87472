"""What goes on: counts, lists and the stream of events. Reads only."""
