"""Side-by-side timings: our training step, an idiomatic PyTorch one, and the machine's ceilings.

    python -m benchmarks.train_step --networks=10-1,16-2 --batch=64 --repeats=7

Everything that is compared is timed in one process and one run, alternately, because a shared
machine's speed drifts by more between two runs than the differences of interest.
"""
