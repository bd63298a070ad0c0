"""Files of masks: tar shards, TSV, COCO and SA-1B JSON; read, written, converted and merged."""
