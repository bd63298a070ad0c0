"""Photos to pseudo masks, without labels: divide into objects, conquer by merging regions."""
