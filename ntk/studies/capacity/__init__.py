"""How wide a network must be to interpolate, plainly and robustly (Gao et al. 2019)."""
