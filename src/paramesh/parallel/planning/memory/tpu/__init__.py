"""How the compiler of TPUs goes about it: see `tiles.py`, then `chip.py`."""
