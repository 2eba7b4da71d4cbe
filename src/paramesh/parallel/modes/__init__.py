"""The parallel modes: data parallel, hybrid, semi-automatic and automatic."""
