"""Runs the commands of XRootD, and queries files on XRootD servers."""
