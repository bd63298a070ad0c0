"""From photos in files to masks in files: sources, outputs, engines, the manifest."""
