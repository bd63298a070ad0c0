"""Datasets, and what turns their records into training samples."""

from unsam.data.catalog import (
    ImageRecord,
    dataset_names,
    get_dataset,
    register_dataset,
)

__all__ = ["ImageRecord", "dataset_names", "get_dataset", "register_dataset"]
