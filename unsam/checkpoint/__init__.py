"""Saving, finding and loading checkpoints. Import the modules: atomic needs no torch."""
