"""Tests. A package, so that helpers in tests/fixtures are imported by one unmistakable name."""
