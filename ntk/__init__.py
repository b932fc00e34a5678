"""Kernels of wide networks, their input gradients, and how both scale with width."""
