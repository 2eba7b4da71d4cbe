"""Plans of steps with pipeline stages: see `making.py`."""
