"""Sharded checkpoints: written by all processes, read under any layout."""
