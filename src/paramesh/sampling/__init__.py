"""Recipes of arrays, and random numbers that are pure functions of a key and a position."""
