"""MindSpore's checkpoints with one file for each rank."""
