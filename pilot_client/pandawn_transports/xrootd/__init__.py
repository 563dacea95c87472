"""The commands of XRootD, and what an XRootD server says of its files."""
