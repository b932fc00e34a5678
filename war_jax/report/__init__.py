"""The page of one run: report.md with its tables and figures."""
