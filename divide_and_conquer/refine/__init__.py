"""Refinement of mask borders by the photo, with the original kept where it goes wrong."""
