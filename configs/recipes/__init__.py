"""Training recipes of published robust networks, as configurations of war_jax.main.

    python -m war_jax.main --config=configs/recipes/awp.py --workdir=runs/awp

Each is a file: its header names source and published numbers, and says what differs here. All of
them are on CIFAR-10 and take DEPTH-WIDTH, lambda=NUMBER, seed=NUMBER and smoke behind the colon.
"""
