"""Operators that XLA partitions wrongly, and the rules that replace its own."""
