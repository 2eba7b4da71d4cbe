"""Layouts and strategies: how arrays are sharded over named axes of devices."""
