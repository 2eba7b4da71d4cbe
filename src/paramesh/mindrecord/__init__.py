"""MindRecord files, by MindSpore's names: `FileWriter`, `FileReader` and their errors.

The format is MindSpore's: its files are read here, and ours by MindSpore.
"""

from paramesh.mindrecord.errors import (
    MindRecordException,
    MRMAddSchemaError,
    MRMDefineIndexError,
    MRMGetMetaError,
    MRMInvalidHeaderSizeError,
    MRMInvalidPageSizeError,
    MRMInvalidSchemaError,
    MRMOpenError,
    MRMOpenForAppendError,
    MRMValidateDataError,
    MRMWriteDatasetError,
    ParamTypeError,
    ParamValueError,
)
from paramesh.mindrecord.reader import FileReader
from paramesh.mindrecord.writer import FileWriter

__all__ = [
    "FileReader",
    "FileWriter",
    "MRMAddSchemaError",
    "MRMDefineIndexError",
    "MRMGetMetaError",
    "MRMInvalidHeaderSizeError",
    "MRMInvalidPageSizeError",
    "MRMInvalidSchemaError",
    "MRMOpenError",
    "MRMOpenForAppendError",
    "MRMValidateDataError",
    "MRMWriteDatasetError",
    "MindRecordException",
    "ParamTypeError",
    "ParamValueError",
]
