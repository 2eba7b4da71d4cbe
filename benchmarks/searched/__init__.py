"""What `benchmarks/search.py` searches: networks, and layouts that people give them by hand."""
