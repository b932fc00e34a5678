"""Robustness against size and compute: which axis helps, by which law, and where that ends."""
