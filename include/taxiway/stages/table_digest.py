"""The digest of a table's content: the same rows have the same digest, whoever wrote them with what.

The bytes of a Parquet file change with the version of its writer, its compression and its notes about pandas. This
digest is over the columns in their order: name, type, which values are missing, and the values themselves.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

_BITS = (8, 16, 32, 64)


def table_digest(table: Any) -> str:
    """Return `sha256:<hex>` of an Arrow table's content; how its columns are cut into chunks makes no difference.

    Text counts as UTF-8 with its lengths, numbers and moments as their little-endian bits, nested values as JSON.
    """
    content = hashlib.sha256()
    for name in table.column_names:
        content.update(_column_digest(name, table[name]))
    return "sha256:" + content.hexdigest()


def _column_digest(name: str, column: Any) -> bytes:
    import pyarrow as pa

    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    content = hashlib.sha256()
    content.update(json.dumps([name, _name_of(column.type), len(column)]).encode() + b"\n")
    content.update(np.packbits(column.is_valid().to_numpy()).tobytes())
    if _is_text(kind) or _is_bytes(kind):
        _add_bytes(content, _in_one(column.cast(kind).cast(pa.large_binary())))  # large: more than 2 GB may be in one
    elif pa.types.is_boolean(kind):
        _add_bits(content, _in_one(column.cast(pa.uint8())))
    elif pa.types.is_primitive(kind) and kind.bit_width in _BITS:
        _add_bits(content, _in_one(column.cast(kind)))
    else:
        for value in column.to_pylist():
            content.update(json.dumps(value, default=repr).encode() + b"\n")
    return content.digest()


def _name_of(kind: Any) -> str:
    """Name a type by what it holds: how text and lists are laid out in memory is no part of it."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return f"categories of {_name_of(kind.value_type)}"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"lists of {_name_of(kind.value_type)}"
    if _is_text(kind):
        return "text"
    return "bytes" if _is_bytes(kind) else str(kind)


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_bytes(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _in_one(column: Any) -> Any:
    import pyarrow as pa

    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _add_bytes(content: hashlib._Hash, array: Any) -> None:
    array = array.fill_null(b"")
    offsets = np.frombuffer(array.buffers()[1], dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    content.update(np.diff(offsets).astype("<i8").tobytes())
    if len(array):
        content.update(memoryview(array.buffers()[2] or b"")[int(offsets[0]) : int(offsets[-1])])


def _add_bits(content: hashlib._Hash, array: Any) -> None:
    import pyarrow as pa

    width = array.type.bit_width
    bits = array.view({8: pa.int8(), 16: pa.int16(), 32: pa.int32(), 64: pa.int64()}[width])
    content.update(bits.fill_null(0).to_numpy().astype(f"<i{width // 8}").tobytes())
