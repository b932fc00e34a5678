"""What a run writes down while it works, and how: whole files or none."""
