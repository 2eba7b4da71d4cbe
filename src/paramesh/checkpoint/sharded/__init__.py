"""Sharded checkpoints: written by every process, read under any layout."""
