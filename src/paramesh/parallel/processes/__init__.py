"""This process among others: joining, leaving, groups of devices, and failures."""
