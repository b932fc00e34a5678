"""What a study found: a table of its runs, tuned lambdas, claims with verdicts, a report."""
