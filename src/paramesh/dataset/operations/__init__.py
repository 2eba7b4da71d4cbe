"""The operations on datasets; importing this makes `Dataset`'s methods work."""

from paramesh.dataset.operations.batching import BatchDataset, BatchInfo, PaddedBatchDataset
from paramesh.dataset.operations.bucketing import BucketBatchByLengthDataset
from paramesh.dataset.operations.columns import ProjectDataset, RenameDataset
from paramesh.dataset.operations.combining import ConcatDataset, FlatMapDataset, ZipDataset, zip
from paramesh.dataset.operations.mapping import MapDataset
from paramesh.dataset.operations.selecting import (
    FilterDataset,
    RepeatDataset,
    ShuffleDataset,
    SkipDataset,
    TakeDataset,
)
from paramesh.dataset.operations.splitting import split

__all__ = [
    "BatchDataset",
    "BatchInfo",
    "BucketBatchByLengthDataset",
    "ConcatDataset",
    "FilterDataset",
    "FlatMapDataset",
    "MapDataset",
    "PaddedBatchDataset",
    "ProjectDataset",
    "RenameDataset",
    "RepeatDataset",
    "ShuffleDataset",
    "SkipDataset",
    "TakeDataset",
    "ZipDataset",
    "split",
    "zip",
]
