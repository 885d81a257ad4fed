"""What ``benchmarks/augment.py`` is made of."""
