"""From a file's bytes to numbered lines of text: compression, encoding and line ends, told from the bytes alone.

Text is UTF-8 unless a byte order mark or the NULs of UTF-16 say otherwise. Where it is not UTF-8 at all but reads as a
western language it is taken for cp1252, and ``said`` says so; in a file that is otherwise UTF-8, bytes that are not
become lone surrogates, which ``readable`` finds: no reader may pass them on.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from redraft.errors import DataError
from redraft.log.formats.rows import BYTES_PER_CHAR, BadRow, Options, TooLong

__all__ = ["Raw", "Records", "Text", "open_text", "readable", "reading", "seems"]

HEAD = 1 << 20  # bytes, then characters, from which a file is judged
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
NAMES = {"utf-8-sig": "UTF-8 with a byte order mark", "cp1252": "cp1252 (a guess: it is not UTF-8)"}
CONTROLS = bytes({*range(32)} - {*b"\t\n\r\f\v\x1b"})
HIGH, RUNS = re.compile(rb"[\x80-\xff]"), re.compile(rb"[\x80-\xff]{3,}")
NOT_WESTERN = re.compile(rb"[\x81\x8d\x8f\x90\x9d\xfe\xff]")  # undefined in cp1252, or letters that hardly occur
LONE, FOUND = re.compile("[\ud800-\udfff]"), re.compile("[^\0-\x7f\ud800-\udfff]")
AS_CSV = "save it as CSV (UTF-8) or JSON Lines"
FOREIGN: dict[bytes | tuple[bytes, ...], tuple[str, str]] = {
    b"SQLite format 3\0": ("an SQLite database", "export the table as CSV or JSON Lines"),
    b"\xd0\xcf\x11\xe0": ("an old Office document, such as .xls", AS_CSV),
    b"%PDF": ("a PDF", "export the rows as CSV or JSON Lines"),
    b"\x89HDF": ("HDF5", "export the rows as Parquet or JSON Lines"),
    b"\x93NUMPY": ("a NumPy array", "export the rows as JSON Lines"),
    (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"): (
        "a pickle, which is not safe to open",
        "export the rows as Parquet or JSON Lines",
    ),
    b"Obj\x01": ("Avro", "export the rows as Parquet or JSON Lines"),
    b"7z\xbc\xaf": ("a 7z archive", "unpack it, and name a file"),
    b"Rar!": ("a RAR archive", "unpack it, and name a file"),
    b"version https://git-lfs": ("a Git LFS pointer, not the data", "fetch it with git lfs pull"),
    b"{\\rtf": ("rich text", "save it as plain text"),
    (b"<?xml", b"<!doctype", b"<!DOCTYPE", b"<html", b"<table"): (
        "HTML or XML",
        "export the rows as CSV or JSON Lines",
    ),
    b"PAR1": ("Parquet inside a compressed file", "unpack it"),
    b"ARROW1": ("Arrow inside a compressed file", "unpack it"),
}


@dataclass(frozen=True, slots=True)
class Raw:
    """One record as it was written: a JSON object, or a table's cells by column; ``line`` (from 1) is where it starts.

    In formats without lines, such as Parquet, ``line`` is the number of the record.
    """

    line: int
    value: Mapping[str, Any]


Records = Callable[[], Iterator[Raw | BadRow]]


@dataclass(frozen=True, slots=True)
class Text:
    """A file that holds text: how to open its bytes, how to read them, its first characters, and what it is."""

    file: Path
    open: Callable[[], BinaryIO]
    encoding: str
    said: tuple[str, ...]
    longest: int
    head: str = ""
    line_end: str = "\n"

    @property
    def whole(self) -> bool:
        """Whether ``head`` is all there is."""
        return len(self.head) < HEAD

    @contextmanager
    def stream(self) -> Generator[io.TextIOWrapper]:
        """Open it from the start; raises ``DataError`` when the bytes turn out to be damaged."""
        errors = "surrogatepass" if self.encoding.startswith(("utf-16", "utf-32")) else "surrogateescape"
        with reading(self.file), io.TextIOWrapper(self.open(), self.encoding, errors, self.line_end) as stream:
            yield stream

    def lines(self) -> Iterator[tuple[int, str | TooLong]]:
        """Number and content of each line, with its end; ``TooLong`` for one that is far too long to hold."""
        with self.stream() as stream:
            for number, line in enumerate(iter(partial(stream.readline, self.longest), ""), start=1):
                if len(line) < self.longest or line.endswith(self.line_end):
                    yield number, line
                else:
                    yield number, self._skip(line, stream)

    def _skip(self, line: str, stream: io.TextIOWrapper) -> TooLong:
        quotes = line.count('"')
        while (rest := stream.readline(self.longest)) and not rest.endswith(self.line_end):
            quotes += rest.count('"')
        return TooLong((quotes + rest.count('"')) % 2 == 1)


def readable(text: str) -> bool:
    """Whether every character came from bytes that are valid in the file's encoding."""
    return text.isascii() or not LONE.search(text)


@contextmanager
def reading(file: Path) -> Generator[None]:
    """Say in one line what goes wrong when bytes are read: ``DataError``."""
    try:
        yield
    except (
        EOFError,
        zlib.error,
        lzma.LZMAError,
        zipfile.BadZipFile,
        NotImplementedError,
        UnicodeError,
        OSError,
    ) as error:
        if isinstance(error, OSError) and error.strerror:
            raise DataError(f"{file}: cannot be read ({error.strerror}): check the path") from error
        detail = " ".join(str(error).split())[:200]
        raise DataError(f"{file}: is damaged or cut ({detail}): fetch or export it again") from error


def open_text(file: Path, options: Options) -> Text:
    """Find out how a file is packed and encoded; raises ``DataError`` when it holds no text that can be read."""
    with reading(file):
        opener, packed = _packing(file)
        with opener() as stream:
            if found := seems(stream.read(HEAD)):
                raise DataError(f"{file}: seems to be {found[0]}: {found[1]}")
        with opener() as stream:
            encoding = _encoding(file, stream)
        name = NAMES.get(encoding, "" if encoding == "utf-8" else encoding.upper())
        said = tuple(part for part in (name, packed) if part)
        text = Text(file, opener, encoding, said, BYTES_PER_CHAR * options.max_text_chars)
        with replace(text, line_end="").stream() as stream:
            head = stream.read(HEAD)
    ends = head.count("\n")
    return replace(text, head=head, line_end="\r" if head.count("\r") - head.count("\r\n") > ends else "\n")


def seems(head: bytes) -> tuple[str, str] | None:
    """Say what a file that holds no text seems to be, and what to do about it."""
    if head[257:262] == b"ustar":
        return "a tar archive", "unpack it, and name a file"
    start = head.removeprefix(codecs.BOM_UTF8).lstrip()
    known = next((found for magic, found in FOREIGN.items() if start.startswith(magic)), None)
    if known or head.startswith(tuple(MARKS)) or _wide(head):
        return known
    if len(head.translate(None, CONTROLS)) < 0.9 * len(head):
        return "binary, of a kind that is not known", "export the rows as CSV, JSON Lines or Parquet"
    return None


def _packing(file: Path) -> tuple[Callable[[], BinaryIO], str]:
    with file.open("rb") as stream:
        magic = stream.read(6)
    if magic.startswith(b"\x1f\x8b"):
        return lambda: cast("BinaryIO", gzip.open(file)), "gzip"
    if magic.startswith(b"BZh"):
        return lambda: cast("BinaryIO", bz2.open(file)), "bzip2"
    if magic.startswith(b"\xfd7zXZ\0"):
        return lambda: cast("BinaryIO", lzma.open(file)), "xz"
    for start, name in ((b"\x28\xb5\x2f\xfd", "zstd"), (b"\x04\x22\x4d\x18", "lz4")):
        if magic.startswith(start):
            return partial(_arrow_stream, file, name), name
    if magic.startswith(b"PK\x03\x04"):
        member = _member(file)
        return partial(_zipped, file, member), f"{member.filename} in zip"
    return lambda: file.open("rb"), ""


def _arrow_stream(file: Path, compression: str) -> BinaryIO:
    import pyarrow as pa

    return io.BufferedReader(cast("Any", pa.input_stream(str(file), compression=compression)))


def _zipped(file: Path, member: zipfile.ZipInfo) -> BinaryIO:
    with zipfile.ZipFile(file) as archive:  # closes with its last member
        return cast("BinaryIO", archive.open(member))


def _member(file: Path) -> zipfile.ZipInfo:
    with zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
    names = [info.filename for info in infos]
    if "[Content_Types].xml" in names or "mimetype" in names:
        raise DataError(f"{file}: seems to be a workbook, such as .xlsx, or a document: {AS_CSV}")
    data = [info for info in infos if not info.is_dir() and not re.search(r"(^|/)(\.|__MACOSX/)", info.filename)]
    if len(data) != 1:
        held = ", ".join(info.filename for info in data[:5]) + (", …" if len(data) > 5 else "") or "nothing"
        raise DataError(f"{file}: a zip must hold one file, but this one holds {held}: unpack it, and name one")
    if data[0].flag_bits & 1:
        raise DataError(f"{file}: the zip asks for a password: unpack it")
    return data[0]


def _wide(head: bytes) -> str:
    """Name the encoding of two or four bytes a character that text without a mark is in, by its first characters."""
    if b"\0" not in head[:4]:
        return ""
    width = 4 if head[:3] == b"\0\0\0" or head[1:4] == b"\0\0\0" else 2
    name = f"utf-{8 * width}-" + ("be" if head.startswith(b"\0") else "le")
    try:
        text = codecs.getincrementaldecoder(name)().decode(head)
    except UnicodeError:
        return ""
    return "" if "\0" in text else name


def _encoding(file: Path, stream: BinaryIO) -> str:
    """Judge by the mark, the NULs, or the first stretch that is not ASCII."""
    head = stream.read(HEAD)
    if marked := next((name for mark, name in MARKS.items() if head.startswith(mark)), _wide(head)):
        return marked
    while head and head.isascii():
        head = stream.read(HEAD)
    # What the stretch's ends cut in two is no fault.
    start = next((i for i, byte in enumerate(head[:3]) if not 0x80 <= byte < 0xC0), 0)
    decoded = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode(head[start:])
    if len(FOUND.findall(decoded)) >= len(LONE.findall(decoded)):  # a few pairs are characters by chance
        return "utf-8"
    if sum(map(len, RUNS.findall(head))) > len(HIGH.findall(head)) / 2:
        raise DataError(f"{file}: is neither UTF-8 nor in a western encoding: save it as UTF-8")
    return "utf-8" if NOT_WESTERN.search(head) else "cp1252"
