"""What a step will hold on each device, before it is compiled: see `predicted.py`."""
