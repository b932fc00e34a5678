"""The study of width and lambda: which runs, in what order, on which devices."""
