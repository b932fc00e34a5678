"""How large input gradients get near the start, held against the theorem of Wu et al. 2021."""
