"""Private and experimental interfaces of other libraries, each touched here and nowhere else.

`tests/test_compat_jax.py` says when one of them has changed.
"""
