"""Robust training of wide residual networks in JAX, with the regularization that width asks for.

    python -m war_jax.main --config=configs/digits.py --workdir=runs/demo

Reading order: config -> data -> models -> attacks -> training (objective, war, step, loop) ->
measures -> report.
"""

__version__ = '0.1.0'
