"""Strategies of operators: checked against the primitives that each call traces to."""
