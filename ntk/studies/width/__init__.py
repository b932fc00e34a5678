"""How input gradients, Lipschitzness, kernels and movement scale with width."""
