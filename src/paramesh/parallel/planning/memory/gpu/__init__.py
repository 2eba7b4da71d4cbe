"""How the compiler of GPUs goes about it: see `kernels.py`, then `hiding.py`."""
