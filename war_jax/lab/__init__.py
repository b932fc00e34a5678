"""What every experiment is made of: its frame, its quantities, its verdicts, its page."""
