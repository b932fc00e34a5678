"""What adversarial training does to a network (Wen et al. 2020), against epsilon, width, lambda."""
