"""Storage dtypes: element types as files name them, some of which exist only in files.

A Tensor has one of the types of `paramesh.dtype`. Files may also contain float8 numbers: a Source
returns them as arrays of `ml_dtypes`, a Sink accepts them, and `storable` says whether a Tensor can
have a type.
Packed pairs of 4-bit numbers are bytes to numpy and to Tensors (Int8), bit for bit as in the file.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np

from paramesh import dtype as types
from paramesh.dtype import DType

float8_e4m3fn = DType("float8_e4m3fn", "Float8E4M3FN", ml_dtypes.float8_e4m3fn, "float")
float8_e5m2 = DType("float8_e5m2", "Float8E5M2", ml_dtypes.float8_e5m2, "float")
float8_e8m0fnu = DType("float8_e8m0fnu", "Float8E8M0FNU", ml_dtypes.float8_e8m0fnu, "float")
float8_e4m3fnuz = DType("float8_e4m3fnuz", "Float8E4M3FNUZ", ml_dtypes.float8_e4m3fnuz, "float")
float8_e5m2fnuz = DType("float8_e5m2fnuz", "Float8E5M2FNUZ", ml_dtypes.float8_e5m2fnuz, "float")

#: Two numbers of 4 bits in each byte. Shapes count bytes, as MindSpore's Int4 (`qint4x2`) does.
int4x2 = DType("int4x2", "Int4", np.int8, "int")

#: Types that exist only in files.
STORAGE_ONLY = (float8_e4m3fn, float8_e5m2, float8_e8m0fnu, float8_e4m3fnuz, float8_e5m2fnuz)

SAFETENSORS: dict[str, DType] = {
    "BOOL": types.bool_,
    "I8": types.int8,
    "I16": types.int16,
    "I32": types.int32,
    "I64": types.int64,
    "U8": types.uint8,
    "U16": types.uint16,
    "U32": types.uint32,
    "U64": types.uint64,
    "F16": types.float16,
    "BF16": types.bfloat16,
    "F32": types.float32,
    "F64": types.float64,
    "C64": types.complex64,
    "F8_E4M3": float8_e4m3fn,
    "F8_E5M2": float8_e5m2,
    "F8_E8M0": float8_e8m0fnu,
    "F8_E4M3FNUZ": float8_e4m3fnuz,
    "F8_E5M2FNUZ": float8_e5m2fnuz,
}

#: Types that MindSpore 2.10 reads from and writes to `.ckpt` files.
MINDSPORE: dict[str, DType] = {
    str(kind): kind for kind in (*types.ALL, int4x2) if not kind.is_complex()
}
#: Types that paramesh reads from them: also complex, which MindSpore writes but cannot read.
MINDSPORE_READS = MINDSPORE | {str(kind): kind for kind in types.complex_type}

_BY_NP = {found.np_dtype: found for found in (*types.ALL, *STORAGE_ONLY)}


def storage_dtype(kind: np.dtype) -> DType:
    """The DType of a numpy dtype, float8 included.

    Raises:
        TypeError: no checkpoint format has it.
    """
    found = _BY_NP.get(kind)
    if found is None:
        names = ", ".join(known.long_name for known in _BY_NP.values())
        raise TypeError(f"A checkpoint cannot hold elements of {kind}; it can hold {names}.")
    return found


def storable(kind: DType) -> bool:
    """Whether a Tensor can have this element type."""
    return kind not in STORAGE_ONLY
