"""A run's best network in PyTorch's names, with what others need to know of it.

    python -m war_jax.export runs/demo --to=demo.safetensors --layout=robustbench

writes demo.safetensors, the weights, and beside it demo.md, a model card, and for that layout
demo.json, a result as RobustBench keeps them. `layouts` says whose names these are, `card` what is
told of the network, `result` what of it goes into RobustBench's file, `files` puts them together.
"""
