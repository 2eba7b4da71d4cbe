"""paramesh.dataset: input pipelines, by the names of MindSpore's `mindspore.dataset`."""

from paramesh.dataset import config
from paramesh.dataset.dataset import Dataset
from paramesh.dataset.operations import (
    BatchDataset,
    BatchInfo,
    BucketBatchByLengthDataset,
    ConcatDataset,
    FilterDataset,
    FlatMapDataset,
    MapDataset,
    PaddedBatchDataset,
    ProjectDataset,
    RenameDataset,
    RepeatDataset,
    ShuffleDataset,
    SkipDataset,
    TakeDataset,
    ZipDataset,
    zip,
)
from paramesh.dataset.samplers import *  # placeholder
from paramesh.dataset.sources.generator import GeneratorDataset, NumpySlicesDataset, PaddedDataset
from paramesh.dataset.sources.schema import Schema
