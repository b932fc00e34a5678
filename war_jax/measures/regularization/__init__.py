"""What adversarial training regularizes (Wen, Li & Jia 2020): margins, distances, gains.

`margins`: how far a prediction is from another, in logits. `distance`: in the image, with the lower
bound that a Lipschitz constant gives. `gains`: how much of a change each layer passes on. The
layers' spectra are those of `war_jax.measures.operators`. `matched` compares networks at the same
training loss.
"""
