"""Pipeline stages: a step as programs of several groups of devices, which share the layers."""
