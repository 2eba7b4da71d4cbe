"""paramesh.dataset: input pipelines, by the names of MindSpore's `mindspore.dataset`.

    import paramesh.dataset as ds

    data = ds.GeneratorDataset(source, ["image", "label"], shuffle=True)
    data = data.map(transform, "image").batch(32)
    for image, label in data.create_tuple_iterator(num_epochs=1): ...

Read `dataset.py` for the operations, `node.py` for what every dataset can be asked, and
`streams.py` for how a pipeline is evaluated. Sources are in `sources/`, operations in
`operations/`.
"""

from paramesh import lazy_names
from paramesh.dataset import config
from paramesh.dataset.dataset import Dataset
from paramesh.dataset.iterators import DictIterator, Iterator, TupleIterator
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
from paramesh.dataset.samplers import (
    BuiltinSampler,
    DistributedSampler,
    IterSampler,
    PKSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Shuffle,
    SubsetRandomSampler,
    SubsetSampler,
    WeightedRandomSampler,
)
from paramesh.dataset.sources.annotated_text import (
    CoNLL2000Dataset,
    SQuADDataset,
    SST2Dataset,
    UDPOSDataset,
)
from paramesh.dataset.sources.annotations import CelebADataset, CocoDataset, VOCDataset
from paramesh.dataset.sources.base import MappableDataset, SourceDataset
from paramesh.dataset.sources.cache import DatasetCache
from paramesh.dataset.sources.corpora import (
    AGNewsDataset,
    AmazonReviewDataset,
    DBpediaDataset,
    EnWik9Dataset,
    IMDBDataset,
    PennTreebankDataset,
    SogouNewsDataset,
    WikiTextDataset,
    YahooAnswersDataset,
    YelpReviewDataset,
)
from paramesh.dataset.sources.generator import GeneratorDataset, NumpySlicesDataset, PaddedDataset
from paramesh.dataset.sources.images import (
    Cifar10Dataset,
    Cifar100Dataset,
    EMnistDataset,
    FashionMnistDataset,
    ImageFolderDataset,
    KMnistDataset,
    MnistDataset,
)
from paramesh.dataset.sources.mindrecord import MindDataset
from paramesh.dataset.sources.schema import Schema
from paramesh.dataset.sources.text import CSVDataset, TextFileDataset
from paramesh.dataset.sources.tfrecord import TFRecordDataset

set_seed, get_seed = config.set_seed, config.get_seed

#: MindSpore's bases by kind of data; one is enough here.
VisionBaseDataset = TextBaseDataset = AudioBaseDataset = UnionBaseDataset = Dataset

__all__ = [
    "AGNewsDataset",
    "AmazonReviewDataset",
    "BatchDataset",
    "BatchInfo",
    "BucketBatchByLengthDataset",
    "BuiltinSampler",
    "CSVDataset",
    "CelebADataset",
    "Cifar100Dataset",
    "Cifar10Dataset",
    "CoNLL2000Dataset",
    "CocoDataset",
    "ConcatDataset",
    "DBpediaDataset",
    "Dataset",
    "DatasetCache",
    "DictIterator",
    "DistributedSampler",
    "EMnistDataset",
    "EnWik9Dataset",
    "FashionMnistDataset",
    "FilterDataset",
    "FlatMapDataset",
    "GeneratorDataset",
    "IMDBDataset",
    "ImageFolderDataset",
    "IterSampler",
    "Iterator",
    "KMnistDataset",
    "MapDataset",
    "MappableDataset",
    "MindDataset",
    "MnistDataset",
    "NumpySlicesDataset",
    "PKSampler",
    "PaddedBatchDataset",
    "PaddedDataset",
    "PennTreebankDataset",
    "ProjectDataset",
    "RandomSampler",
    "RenameDataset",
    "RepeatDataset",
    "SQuADDataset",
    "SST2Dataset",
    "Sampler",
    "Schema",
    "SequentialSampler",
    "Shuffle",
    "ShuffleDataset",
    "SkipDataset",
    "SogouNewsDataset",
    "SourceDataset",
    "SubsetRandomSampler",
    "SubsetSampler",
    "TFRecordDataset",
    "TakeDataset",
    "TextFileDataset",
    "TupleIterator",
    "UDPOSDataset",
    "VOCDataset",
    "WeightedRandomSampler",
    "WikiTextDataset",
    "YahooAnswersDataset",
    "YelpReviewDataset",
    "ZipDataset",
    "config",
    "get_seed",
    "set_seed",
    "zip",
]

#: The packages of transforms are loaded when they are first asked for, as are MindSpore's paths.
__getattr__ = lazy_names.opened(__name__, {}, lambda: __all__)
