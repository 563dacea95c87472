"""What runs on a worker node: the pilot, its cache of input files and the pcache hook."""
