"""A module for each entry point's work."""
