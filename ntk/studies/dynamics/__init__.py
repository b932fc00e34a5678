"""Probes of war_jax's training runs, measured: kernel drift, input gradients, Lipschitzness.

`settings` says what is measured, `measure` has the numbers of one network and `bench` goes through
all that are there; `findings` compares them and writes the page, with the figures of `pictures`.
"""
