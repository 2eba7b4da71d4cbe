"""MindSpore's `dataset`: sources, operations and transforms of samples."""
