"""From the downloads of public datasets to the form that training and evaluation read.

Class-agnostic COCO JSON with compressed RLE (``level`` and ``parent_id`` where the source tells
objects from parts) beside a folder ``images``; tars with granularity for SA-1B. A rerun writes
the same files again; a half download is refused before anything is written.
"""
