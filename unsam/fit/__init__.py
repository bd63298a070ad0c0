"""Label-free training on one's own photos, from a folder to a segmenter and a report."""
