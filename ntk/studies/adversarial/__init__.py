"""Adversarial training of the infinitely wide network (Adv-NTK), beside finite ones."""
