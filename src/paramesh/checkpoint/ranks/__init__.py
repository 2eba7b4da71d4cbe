"""MindSpore's per-rank checkpoints: one file for each rank."""
