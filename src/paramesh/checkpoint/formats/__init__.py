"""File formats of checkpoints, each as a source to read and a sink to write."""
