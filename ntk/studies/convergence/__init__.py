"""Adversarial training near its start, and the best that is to be had there (Gao et al. 2019)."""
