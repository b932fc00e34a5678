"""Experiments on the theory of wide networks, each on the frame of war_jax.lab."""
