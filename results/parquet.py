"""Takes records; gives the bytes of their Parquet file, and from such bytes headers and records.

A file is its parts (row groups) and Parquet's footer. The footer's key-value metadata hold

- ``header``: JSON, the headers of all rows and each part's length and SHA-256,
- ``header_sha256``: of that JSON, so that headers are trusted without reading anything else,
- ``seal``: SHA-256 of the footer with sixty-four zeros in its place.

Parquet itself has checksums of pages only; with these a flipped bit anywhere in a file shows to
whoever reads that place.
"""

import hashlib
import io
import json
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from results.schema import (
    COLUMNS,
    SCHEMA_VERSION,
    Header,
    Record,
    check_schema,
    check_version,
    from_header_object,
    from_row,
    header_object,
    headers_of,
    to_table,
)

TAIL = 32 * 1024
"""Bytes at a file's end that hold the footer of a single attempt."""

_MAGIC = b"PAR1"
_END = 4 + len(_MAGIC)  # the footer's length, and the magic
_UNSEALED = b"0" * 64


@dataclass(frozen=True)
class Contents:
    """What a file's footer says is in it.

    Args:
        headers: of its rows, in order.
        parts: each part's length in bytes and SHA-256; the first begins where the file does.
    """

    headers: tuple[Header, ...]
    parts: tuple[tuple[int, str], ...]


def encode(record: Record) -> bytes:
    """The file of one attempt."""
    table, sink = to_table(record), io.BytesIO()
    # One row: statistics and dictionaries would be most of the file.
    with pq.ParquetWriter(sink, COLUMNS, use_dictionary=False, write_statistics=False) as file:
        file.write_table(table)
        bulk = sink.getvalue()
        content = {
            "schema_version": SCHEMA_VERSION,
            "parts": [(len(bulk), _digest(bulk).decode())],
            "attempts": [header_object(header) for header in headers_of(table)],
        }
        header = json.dumps(content, separators=(",", ":")).encode()
        file.add_key_value_metadata(
            {"header": header, "header_sha256": _digest(header), "seal": _UNSEALED}
        )
    footer = sink.getvalue()[len(bulk) :]
    start, end = _place(footer, b"seal")
    return bulk + footer[:start] + _digest(footer) + footer[end:]


def footer_length(tail: bytes, size: int) -> int:
    """How many of a file's ``size`` bytes are its footer, by the last of them.

    Raises:
        ValueError: this is not the end of a Parquet file.
    """
    length = int.from_bytes(tail[-_END : -len(_MAGIC)], "little") + _END
    if not tail.endswith(_MAGIC) or length > size:
        raise ValueError("it is torn or not Parquet")
    return length


def read_contents(footer: bytes) -> Contents:
    """Headers and parts; of the footer only the bytes that hold them are looked at.

    Raises:
        ValueError: not a record's footer, another version's, or damaged.
    """
    try:
        start, end = _place(footer, b"header")
        header, (start, end) = footer[start:end], _place(footer, b"header_sha256", end)
    except ValueError:
        _check_schema_of(footer)
        raise
    if _digest(header) != footer[start:end]:
        raise ValueError("it is damaged: its header does not match its checksum")
    content = json.loads(header)
    check_version(content["schema_version"])
    parts = tuple((length, digest) for length, digest in content["parts"])
    return Contents(tuple(map(from_header_object, content["attempts"])), parts)


def decode(data: bytes) -> Record:
    """The record of a whole file.

    Raises:
        ValueError: the file is no record, another version's, or damaged anywhere.
    """
    footer = data[len(data) - footer_length(data, len(data)) :]
    contents = read_contents(footer)
    start, end = _place(footer, b"seal")
    if _digest(footer[:start] + _UNSEALED + footer[end:]) != footer[start:end]:
        raise ValueError("it is damaged: its footer does not match its checksum")
    position = 0
    for length, digest in contents.parts:
        if _digest(data[position : position + length]) != digest.encode():
            raise ValueError("it is damaged: its content does not match its checksum")
        position += length
    if position + len(footer) != len(data):
        raise ValueError("it is damaged: bytes were added to it")
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        check_schema(file.schema_arrow)
        record = from_row(file.read(use_threads=False))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"it is torn or not Parquet ({str(error).splitlines()[0]})") from error
    # By their text, in which a NaN is itself.
    if repr(contents.headers) != repr((record.header(),)):
        raise ValueError("it is damaged: its header is not that of its content")
    return record


def _check_schema_of(footer: bytes) -> None:
    """Say why a footer has no header: another version's, foreign, or torn."""
    try:
        check_schema(pq.read_metadata(pa.BufferReader(footer)).schema.to_arrow_schema())
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"it is torn or not Parquet ({str(error).splitlines()[0]})") from error


def _place(footer: bytes, key: bytes, after: int = 0) -> tuple[int, int]:
    """Where a key's value stands in a footer, ``after`` so many bytes.

    Parsing the footer takes a hundred times longer than finding its few bytes. In Thrift's compact
    protocol a key-value is two strings, each a byte 0x18, a varint of its length, and its bytes;
    0x18 is in no JSON and in no base64, so the pattern is nowhere else.

    Raises:
        ValueError: the footer has no such key.
    """
    pattern = b"\x18" + bytes([len(key)]) + key + b"\x18"
    found = footer.find(pattern, after)
    length = shift = 0
    if found >= 0:
        for position in range(found + len(pattern), len(footer)):
            length |= (footer[position] & 0x7F) << shift
            if footer[position] < 0x80:
                return position + 1, position + 1 + length
            shift += 7
    raise ValueError(f"it is damaged: its footer has no {key.decode()}")


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()
