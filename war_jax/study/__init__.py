"""The study of λ × width: its runs, its statistics, its claims and its report."""
