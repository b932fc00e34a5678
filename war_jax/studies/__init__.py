"""Experiments: width and lambda, robustness as regularization, and the page of all verdicts."""
