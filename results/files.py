"""Takes a folder or URI; gives its files listed and read, and writes new ones aside and moved.

What cannot be reached is one ``StoreError``; a file that is gone is a ``FileNotFoundError``,
because another process may have moved what it holds into another file.
"""

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit
from uuid import uuid4

import pyarrow as pa
from pyarrow import fs

_REMEDY = "name a folder or URI that can be reached and written to"
_REMOTE_REMEDY = (
    "check the address, the bucket and the credentials, such as s3://bucket/folder"
    "?endpoint_override=host:9000&scheme=http with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY set"
)
_GS_REMEDY = (
    "check the address, the bucket and the credentials: gcloud auth application-default login, or "
    "gs://anonymous@bucket/folder"
)
_CONNECT_SECONDS = 3.0
_GS_PATIENCE, _GS_SECONDS = "retry_limit_seconds", 10
_ONE_SLASH = re.compile(r"(s3|gs|gcs|file|http|https):/", re.IGNORECASE)
_CHUNK = 8 * 1024 * 1024


class StoreError(ValueError):
    """The store cannot be reached, or has no answer to what was asked.

    Args:
        problem: what is wrong, in one clause.
        file: the folder, URI or file concerned.
        remedy: what to do about it.
    """

    def __init__(self, problem: str, file: str, remedy: str) -> None:
        super().__init__(problem, file, remedy)
        self.problem = problem
        self.file = file
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}\n  file: {self.file}\n  remedy: {self.remedy}"


class Files:
    """The files below one location; holds no state but where that is.

    ``address`` is the location with what was found out about it: it opens without a request.

    Args:
        location: a local path, or a URI that ``pyarrow.fs`` understands (``s3://``, ``gs://``,
            ``file://``).

    Raises:
        StoreError: a URI of an unknown kind, or one that says nothing of a bucket that exists.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        try:
            self._files, base, self.address = _filesystem(location)
        except OSError as error:  # a bucket was asked for its region
            raise StoreError(
                f"the store cannot be reached: {error}", location, self._remedy
            ) from error
        except (pa.ArrowInvalid, TypeError, ValueError) as error:
            raise StoreError(
                f"this is not the address of a store: {error}", location, self._remedy
            ) from error
        self._base = base.rstrip("/")

    @property
    def is_local(self) -> bool:
        """Whether reading a file takes no request."""
        return isinstance(self._files, fs.LocalFileSystem)

    @property
    def exist(self) -> bool:
        """Whether anything is there: a folder, or the beginning of some object's name.

        Raises:
            StoreError: the location cannot be read.
        """
        with self._reached("read"):
            if self._files.get_file_info(self._base).type == fs.FileType.Directory:
                return True
            self._check_place()
            return False

    def listing(self, folder: str, prefix: str = "") -> list[fs.FileInfo]:
        """What is in a folder and called so, hidden files too, by name; no folder is an empty one.

        Raises:
            StoreError: the location cannot be read.
        """
        place = f"{self._base}/{folder}"
        with self._reached("read"):
            if prefix and self.is_local:
                # Of ten thousand files one is wanted by each training that starts.
                found = self._files.get_file_info(_called(place, prefix))
            else:
                found = self._files.get_file_info(fs.FileSelector(place, allow_not_found=True))
            if not found:
                self._check_place()
        there = [
            info
            for info in found
            if info.type != fs.FileType.NotFound and info.base_name.startswith(prefix)
        ]
        return sorted(there, key=lambda info: str(info.base_name))

    @contextmanager
    def open(self, info: fs.FileInfo) -> Iterator[Callable[[int, int], bytes]]:
        """A file, as what gives its bytes from a position on, so many.

        Raises:
            FileNotFoundError: it is gone.
            ValueError: it is a folder.
            StoreError: it cannot be read. Not a bad file but a store out of reach: to skip it would
                train everything again.
        """
        if info.type == fs.FileType.Directory:
            raise ValueError("it is a folder, not a training record")
        with (
            self._reached("read", info.path),
            self._files.open_input_file(info.path) as file,
        ):

            def read(position: int, length: int) -> bytes:
                with self._reached("read", info.path):
                    content: bytes = file.read_at(length, position)
                return content

            yield read

    def write(
        self, folder: str, name: str, produce: Callable[[Callable[[bytes], None]], None]
    ) -> None:
        """Write a file aside and move it into place; ``produce`` is given what takes its bytes.

        Once this returns, the file outlives the machine's power.

        Raises:
            StoreError: the location cannot be written to.
        """
        place = f"{self._base}/{folder}"
        aside = f"{place}/.{name}.{uuid4().hex}.tmp"
        with self._reached("written"):
            self._files.create_dir(place, recursive=True)
            stream = self._files.open_output_stream(aside)
            try:
                with stream:
                    produce(stream.write)
            except BaseException:
                # Closing has made a whole object of half of it.
                self._files.delete_file(aside)
                raise
            self._settle(aside)
            self._files.move(aside, f"{place}/{name}")
            self._settle(place)

    def info(self, folder: str, name: str) -> fs.FileInfo:
        """What is known of a file.

        Raises:
            StoreError: the location cannot be reached.
        """
        with self._reached("read"):
            return self._files.get_file_info(f"{self._base}/{folder}/{name}")

    def delete(self, info: fs.FileInfo) -> None:
        """Delete a file; one that is gone already is fine.

        Raises:
            StoreError: the location cannot be written to.
        """
        with suppress(FileNotFoundError), self._reached("written", info.path):
            self._files.delete_file(info.path)

    def copy(self, source: "Files", info: fs.FileInfo, folder: str) -> None:
        """Copy a file of another location, byte by byte.

        Raises:
            FileNotFoundError: it is gone.
            StoreError: either location is out of reach.
        """

        def produce(out: Callable[[bytes], None]) -> None:
            for position in range(0, info.size, _CHUNK):
                out(read(position, min(_CHUNK, info.size - position)))

        with source.open(info) as read:
            self.write(folder, info.base_name, produce)

    def _check_place(self) -> None:
        """Tell an empty store from a place that is none: a file, or a bucket that is not there."""
        if self._files.get_file_info(self._base).type == fs.FileType.File:
            raise NotADirectoryError("it is a file, not a folder")
        bucket = self._base.split("/")[0]
        if not self.is_local and self._files.get_file_info(bucket).type == fs.FileType.NotFound:
            raise OSError(f"there is no bucket {bucket!r}")

    def _settle(self, path: str) -> None:
        """Have a local file or folder on disk before anything relies on it."""
        if self.is_local:
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    @contextmanager
    def _reached(self, what: str, path: str | None = None) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # A network folder calls a file that is gone stale.
            if path is not None and error.errno in (errno.ENOENT, errno.ESTALE):
                raise FileNotFoundError(errno.ENOENT, "it is gone", path) from error
            subject = "the store" if path is None else "a record"
            problem = str(error).splitlines()[0]
            raise StoreError(
                f"{subject} cannot be {what}: {problem}", path or self.location, self._remedy
            ) from error

    @property
    def _remedy(self) -> str:
        if self.location.startswith("gs://"):
            return _GS_REMEDY
        return _REMOTE_REMEDY if "://" in self.location else _REMEDY


def _called(folder: str, prefix: str) -> list[str]:
    """The paths in a local folder whose names start so; nothing is asked of any other file."""
    try:
        with os.scandir(folder) as entries:
            return [entry.path for entry in entries if entry.name.startswith(prefix)]
    except FileNotFoundError:
        return []


def _filesystem(location: str) -> tuple[fs.FileSystem, str, str]:
    """A location's file system, its path there, and its address (``Files.address``)."""
    if "://" not in location:
        if not location or location.startswith("~") or _ONE_SLASH.match(location):
            raise ValueError("neither a folder nor a URI; ~ is the shell's")
        return fs.LocalFileSystem(), str(Path(location).absolute()), location
    parts = urlsplit(location)
    if parts.scheme == "gs" and _GS_PATIENCE not in parts.query:
        # Google's client asks for a quarter of an hour.
        query = "&".join(filter(None, (parts.query, f"{_GS_PATIENCE}={_GS_SECONDS}")))
        location = urlunsplit(parts._replace(query=query))
    if parts.scheme != "s3":
        files, base = fs.FileSystem.from_uri(location)
        return files, base, location
    # By URI, Arrow waits six seconds for a server that refuses, and twice that before a write.
    options: dict[str, object] = {
        key: {"true": True, "false": False}.get(value, value)
        for key, value in parse_qsl(parts.query, strict_parsing=bool(parts.query))
    }
    if parts.username:
        options |= {
            "access_key": unquote(parts.username),
            "secret_key": unquote(parts.password or ""),
        }
    if not parts.hostname:
        raise ValueError("it names no bucket")
    if not {"region", "endpoint_override"} & options.keys():
        options["region"] = fs.resolve_s3_region(parts.hostname)
        known = "&".join(filter(None, (parts.query, f"region={options['region']}")))
        location = urlunsplit(parts._replace(query=known))
    files = fs.S3FileSystem(connect_timeout=_CONNECT_SECONDS, **options)
    return files, parts.hostname + unquote(parts.path), location
