"""Served Parameters in programs, training steps and checkpoints."""
