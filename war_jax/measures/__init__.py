"""What is said about a trained network: accuracies, local Lipschitzness, and their intervals."""
