"""From rows and arrays to files a person reads: atomic writes, tables, figures, the run report."""
