"""Pipeline stages: a step as programs of several groups of devices, each with a part of the layers."""
