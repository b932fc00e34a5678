"""Networks, and the two ways in which one is called."""
