"""Takes records; gives the bytes of their Parquet file, and from such bytes headers and records.

A file is its parts (row groups of one or several records) and Parquet's footer. The footer's
key-value metadata hold

- ``header``: a line for the file (schema version; each part's length, rows and SHA-256), then a
  line for the header of each row; a line is the SHA-256 of some JSON, a space, and the JSON,
- ``seal``: SHA-256 of the footer with sixty-four zeros in its place.

Parquet itself has checksums of pages only; with these a flipped bit anywhere in a file shows to
whoever reads that place, and a header is trusted without reading anything else.
"""

import hashlib
import io
import json
import mmap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from results.columns import (
    COLUMNS,
    check_schema,
    check_version,
    from_header_object,
    from_row,
    header_object,
    headers_of,
    to_table,
)
from results.schema import SCHEMA_VERSION, Header, Record

TAIL = 40 * 1024
"""Bytes at a file's end that hold the footer of a single attempt."""
WHOLE = 1024 * 1024
"""Bytes at a file's end that hold all of a single attempt."""
PART_ROWS = 16
"""Records in a part of a pack: what reading one of them has to decode."""

Read = Callable[[int, int], bytes]
"""Gives a file's bytes from a position on, so many."""

_MAGIC = b"PAR1"
_END = 4 + len(_MAGIC)  # the footer's length, and the magic
_UNSEALED = b"0" * 64
_DIGEST = 64  # hexadecimal digits


class _Sink(io.RawIOBase):
    """What Parquet is written to: holds it until it is taken."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._position = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._pending += data
        self._position += len(data)
        return len(data)

    def tell(self) -> int:
        return self._position

    def take(self) -> bytes:
        taken, self._pending = bytes(self._pending), bytearray()
        return taken


def write(parts: Iterable[pa.Table], out: Callable[[bytes], object]) -> None:
    """Write a file of several parts, piece by piece; memory holds one part at a time."""
    sink = _Sink()
    index: list[tuple[int, int, str]] = []
    headers: list[bytes] = []
    # Curves compress well by themselves; statistics and dictionaries would only make it larger.
    with pq.ParquetWriter(
        sink, COLUMNS, compression="zstd", use_dictionary=False, write_statistics=False
    ) as file:
        for table in parts:
            file.write_table(table)
            bulk = sink.take()
            index.append((len(bulk), table.num_rows, _digest(bulk).decode()))
            headers += [_line(header_object(header)) for header in headers_of(table)]
            out(bulk)
        first = _line({"schema_version": SCHEMA_VERSION, "parts": index})
        lines = b"\n".join([first, *headers])
        file.add_key_value_metadata({"header": lines, "seal": _UNSEALED})
    footer = sink.take()
    start, end = _place(footer, b"seal")
    out(footer[:start] + _digest(footer) + footer[end:])


def encode(record: Record) -> bytes:
    """The file of one attempt."""
    pieces: list[bytes] = []
    write([to_table(record)], pieces.append)
    return b"".join(pieces)


class RecordFile:
    """A file of records, read by ranges; each range is verified before it is used.

    Args:
        read: gives its bytes.
        size: of the file.
        ahead: so many of its last bytes are read at once.

    Raises:
        ValueError: not a record's file, another version's, or damaged.
    """

    def __init__(self, read: Read, size: int, ahead: int = TAIL) -> None:
        start = max(0, size - ahead)
        self._tail, self._tail_start = read(start, size - start), start
        self._read, self._size = read, size
        length = _footer_length(self._tail, size)
        self._footer = self._range(size - length, length)
        try:
            start, end = _place(self._footer, b"header")
        except ValueError:
            _check_schema_of(self._footer)
            raise
        first, *self._lines = self._footer[start:end].split(b"\n")
        content = _parsed(first)
        if content is None:
            raise ValueError("it is damaged: its header does not match its checksum")
        check_version(content["schema_version"])
        self._parts = content["parts"]
        if len(self._lines) != sum(rows for _, rows, _ in self._parts):
            raise ValueError("it is damaged: it has not one header for each row")

    @property
    def rows(self) -> int:
        """How many records it holds."""
        return len(self._lines)

    def headers(self, prefix: str = "") -> list[Header | None]:
        """The header of each row whose identity starts so; None for others, and if damaged."""
        begins = b'{"identity":' + json.dumps(prefix).encode()[:-1]
        found: list[Header | None] = []
        for line in self._lines:
            content = _parsed(line) if not prefix or begins in line else None
            found.append(None if content is None else from_header_object(content))
        return found

    def damaged_headers(self) -> int:
        """How many headers do not match their checksum."""
        return sum(_parsed(line) is None for line in self._lines)

    def tables(self) -> Iterator[pa.Table]:
        """Its parts, each verified with its headers against its columns.

        Raises:
            ValueError: a part, or the footer, is damaged.
        """
        file, content = self._open()
        position = 0
        for part in range(len(self._parts)):
            yield self._table(file, content, part, position)
            position += self._parts[part][0]

    def columns(self, names: Sequence[str]) -> Iterator[tuple[Header, dict[str, Any]]]:
        """Each row's header, and the values of some columns, or of parts of them.

        Args:
            names: as Parquet has them: ``log_tail``, ``curve.list.element.loss``.

        Raises:
            ValueError: a part, a header or the footer is damaged.
        """
        file, content = self._open()
        headers = self.headers()
        position = first = 0
        for part, (length, rows, _) in enumerate(self._parts):
            self._put(content, part, position)
            with _parquet():
                table = file.read_row_group(part, columns=list(names), use_threads=False)
            for header, row in zip(headers[first : first + rows], table.to_pylist(), strict=True):
                if header is None:
                    raise ValueError("it is damaged: a header does not match its checksum")
                yield header, row
            position, first = position + length, first + rows

    def record(self, row: int) -> Record:
        """One record; reads no part but its own.

        Raises:
            ValueError: the part, or the footer, is damaged.
        """
        file, content = self._open()
        position = first = 0
        for part, (length, rows, _) in enumerate(self._parts):
            if row < first + rows:
                table = self._table(file, content, part, position)
                return from_row(table.slice(row - first, 1))
            position, first = position + length, first + rows
        raise AssertionError(f"row {row} of {self.rows}")

    def _open(self) -> tuple[pq.ParquetFile, mmap.mmap]:
        """Parquet's reader of a buffer that holds the footer, and parts once they are put there."""
        start, end = _place(self._footer, b"seal")
        sealed = self._footer[start:end]
        if _digest(self._footer[:start] + _UNSEALED + self._footer[end:]) != sealed:
            raise ValueError("it is damaged: its footer does not match its checksum")
        bulk = sum(length for length, _, _ in self._parts)
        if bulk + len(self._footer) != self._size:
            raise ValueError("it is damaged: its parts do not add up")
        content = mmap.mmap(-1, self._size)  # pages that are never written take no memory
        content[bulk:] = self._footer
        with _parquet():
            file = pq.ParquetFile(pa.BufferReader(pa.py_buffer(content)))
            schema = file.schema_arrow
        check_schema(schema)
        return file, content

    def _table(
        self, file: pq.ParquetFile, content: mmap.mmap, part: int, position: int
    ) -> pa.Table:
        self._put(content, part, position)
        with _parquet():
            table = file.read_row_group(part, use_threads=False)
        rows = self._parts[part][1]
        first = sum(rows for _, rows, _ in self._parts[:part])
        lines = self._lines[first : first + rows]
        # As JSON, in which a NaN is itself.
        if [_line(header_object(header)) for header in headers_of(table)] != lines:
            raise ValueError("it is damaged: its headers are not those of its content")
        return table

    def _put(self, content: mmap.mmap, part: int, position: int) -> None:
        """Put a part where Parquet's reader looks for it, once it is known to be whole."""
        length, _, digest = self._parts[part]
        bulk = self._range(position, length)
        if _digest(bulk) != digest.encode():
            raise ValueError("it is damaged: its content does not match its checksum")
        content[position : position + length] = bulk

    def _range(self, position: int, length: int) -> bytes:
        if position < self._tail_start:
            return self._read(position, length)
        start = position - self._tail_start
        return self._tail[start : start + length]


@contextmanager
def _parquet() -> Iterator[None]:
    """Turns what Parquet's reader complains about into a ValueError."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        problem = str(error).splitlines()[0]
        raise ValueError(f"it is torn or not Parquet ({problem})") from error


def _footer_length(tail: bytes, size: int) -> int:
    length = int.from_bytes(tail[-_END : -len(_MAGIC)], "little") + _END
    if not tail.endswith(_MAGIC) or length > size:
        raise ValueError("it is torn or not Parquet")
    return length


def _check_schema_of(footer: bytes) -> None:
    """Say why a footer has no header: another version's, foreign, or torn."""
    with _parquet():
        schema = pq.read_metadata(pa.BufferReader(footer)).schema.to_arrow_schema()
    check_schema(schema)


def _line(content: dict[str, Any]) -> bytes:
    text = json.dumps(content, separators=(",", ":")).encode()
    return _digest(text) + b" " + text


def _parsed(line: bytes) -> Any:
    """A line's content; None if it does not match its checksum."""
    text = line[_DIGEST + 1 :]
    return json.loads(text) if line.startswith(_digest(text) + b" ") else None


def _place(footer: bytes, key: bytes) -> tuple[int, int]:
    """Where a key's value stands in a footer.

    Parsing the footer takes a hundred times longer than finding its few bytes. In Thrift's compact
    protocol a key-value is two strings, each a byte 0x18, a varint of its length, and its bytes;
    0x18 is in no JSON and in no base64, so the pattern is nowhere else.

    Raises:
        ValueError: the footer has no such key.
    """
    pattern = b"\x18" + bytes([len(key)]) + key + b"\x18"
    found = footer.find(pattern)
    length = shift = 0
    if found >= 0:
        for position in range(found + len(pattern), min(len(footer), found + len(pattern) + 5)):
            length |= (footer[position] & 0x7F) << shift
            if footer[position] < 0x80:
                return position + 1, position + 1 + length
            shift += 7
    raise ValueError(f"it is damaged: its footer has no {key.decode()}")


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()
