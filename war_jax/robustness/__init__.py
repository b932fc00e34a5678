"""Robust accuracy under strong attacks: of a checkpoint, a PyTorch file, or any JAX function."""
