"""Private and experimental interfaces of other libraries, each touched here and nowhere else.

`tests/test_compat_jax.py` and `tests/test_compat_ray.py` say when one of them has changed, and
`tests/test_compat_borders.py` fails where another module touches one.
"""
