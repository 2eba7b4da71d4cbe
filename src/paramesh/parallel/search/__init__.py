"""The search for layouts of auto_parallel: see `plan.py` for what it gives."""
