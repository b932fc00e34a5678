"""From a batch to a better network: objective, optimizer, state, step and the loop around them."""
