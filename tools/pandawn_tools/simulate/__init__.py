"""Simulates the rules of matching on a cluster with a virtual clock, to measure their gain (`pandawn simulate`)."""
