"""Configurations of runs and studies; installed as `war_jax.configs`, that they travel along."""
