"""Features of a photo's pixels or patches, and their pooling into regions."""
