"""The errors of MindRecord files, by MindSpore's names."""

from __future__ import annotations


class MindRecordException(Exception):
    """Something about a MindRecord file."""


class ParamValueError(MindRecordException, ValueError):
    """An argument with a wrong value."""


class ParamTypeError(MindRecordException, TypeError):
    """An argument of a wrong type."""


class MRMOpenError(MindRecordException, RuntimeError):
    """A file that cannot be opened, or is none of MindRecord's."""


class MRMOpenForAppendError(MRMOpenError):
    """A file that cannot be opened for more data."""


class MRMInvalidSchemaError(MindRecordException):
    """A schema with a field that MindRecord does not have."""


class MRMAddSchemaError(MindRecordException):
    """A second schema."""


class MRMDefineIndexError(MindRecordException):
    """An index over a field that cannot have one."""


class MRMGetMetaError(MindRecordException):
    """There is no schema yet."""


class MRMInvalidHeaderSizeError(MindRecordException):
    """A header size out of range."""


class MRMInvalidPageSizeError(MindRecordException):
    """A page size out of range."""


class MRMValidateDataError(MindRecordException, RuntimeError):
    """A row that does not fit the schema."""


class MRMWriteDatasetError(MindRecordException, RuntimeError):
    """A row that fits in no page, or a header that is full."""
