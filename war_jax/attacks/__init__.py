"""Threat models, and the attacks that search them."""
