"""What a file is, from its first bytes: enough to choose a runtime, and to name in words what no runtime takes.

This runs in the supervisor, so it imports no framework, never unpickles, and reads little: heads of files, the list of
a zip archive, and of an ONNX file only the tags and lengths of its outermost fields.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import pickletools
import zipfile
import zlib
from pathlib import Path
from typing import IO, NamedTuple

HEAD_BYTES = 4096


class Look(NamedTuple):
    """`format`: onnx, ort, pickle, joblib, skops, python, or '' for what no runtime takes. `words`: for a person."""

    format: str
    words: str


def look(path: Path) -> Look:
    """Look at a regular file. Raises OSError where it cannot be read."""
    size = path.stat().st_size
    if size == 0:
        return Look("", "an empty file")
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        if head.startswith(b"PK\x03\x04") or head.startswith(b"PK\x05\x06"):
            return _look_at_zip(path)
        for start, offset, words in _MAGIC:
            if head.startswith(start, offset):
                return Look("ort" if start == b"ORTM" else "", words)
        found = _look_at_pickle(head, path.suffix, size) or _look_at_compressed(path, head) or _look_at_onnx(file, size)
        if found:
            return found
    if path.suffix == ".py":
        return Look("python", "a Python file")
    return Look("", _text_words(head) or "a binary file that begins with " + head[:8].hex(" "))


_MAGIC: tuple[tuple[bytes, int, str], ...] = (
    (b"ORTM", 4, "a model in ONNX Runtime's own format"),
    (b"TFL3", 4, "a TensorFlow Lite model"),
    (b"\x89HDF\r\n\x1a\n", 0, "an HDF5 file, such as Keras writes"),
    (b"GGUF", 0, "a GGUF language model"),
    (b"CBM1", 0, "a CatBoost model in its own format"),
    (b"tree\nversion=", 0, "a LightGBM model in its own text format"),
    (b"\x93NUMPY", 0, "a numpy array"),
    (b"PAR1", 0, "a Parquet table"),
    (b"ftrt", 0, "a TensorRT engine"),
    (b"ZF", 0, "a joblib file written before joblib 0.10; load it and save it again with joblib.dump"),
    (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", 0, "a PyTorch checkpoint in the format before 1.6"),
    (b"ustar", 257, "a tar archive"),
    (b"\x7fELF", 0, "a compiled program or library"),
    (b"%PDF", 0, "a PDF document"),
    (b"\x89PNG", 0, "a picture"),
    (b"\xff\xd8\xff", 0, "a picture"),
    (b"\x28\xb5\x2f\xfd", 0, "a Zstandard archive"),
)


def _look_at_zip(path: Path) -> Look:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError) as error:
        return Look("", f"a damaged zip archive ({error})")
    last = {name.rpartition("/")[2] for name in names}
    if "schema.json" in names:
        return Look("skops", "a skops file")
    if "constants.pkl" in last:
        return Look("", "a TorchScript archive")
    if "data.pkl" in last:
        return Look("", "a PyTorch zip archive")
    if "model.weights.h5" in last:
        return Look("", "a Keras 3 archive")
    if names and all(name.endswith(".npy") for name in names):
        return Look("", "an archive of numpy arrays (.npz)")
    return Look("", f"a zip archive with {len(names)} files")


def _look_at_pickle(head: bytes, suffix: str, size: int) -> Look | None:
    if head[0] == 0x80 and len(head) > 1:
        if 2 <= head[1] <= 5:
            pass
        elif head[1] <= 20:
            return Look("", f"a pickle of protocol {head[1]}, which this Python cannot read")
        else:
            return None
    elif not _is_old_pickle(head, size):
        return None
    if suffix == ".joblib" or b"joblib" in head:
        return Look("joblib", "a joblib file")
    return Look("pickle", "a pickle")


def _is_old_pickle(head: bytes, size: int) -> bool:
    """Protocols 0 and 1 have no header: they begin with one of few opcodes, and everything after must parse."""
    if head[:1] not in b"(c]}" or len(head) < 4:
        return False
    codes = 0
    try:
        for _ in pickletools.genops(head):
            codes += 1
    except Exception:  # cut off in the middle of an opcode is the rule, and genops raises many kinds for it
        return size > len(head) and codes > 16
    return codes > 2


def _look_at_compressed(path: Path, head: bytes) -> Look | None:
    if head.startswith(b'\x04"M\x18'):
        return Look("joblib", "an lz4-compressed joblib file")
    kind = compression_of(head)
    if not kind:
        return None
    try:
        with open_compressed(path, kind) as file:
            inner = file.read(HEAD_BYTES)
    except (OSError, EOFError, zlib.error, lzma.LZMAError):
        return None if kind in ("zlib", "lzma") else Look("", f"a damaged {kind} file")
    if inner and _look_at_pickle(inner, ".joblib", HEAD_BYTES + 1):
        return Look("joblib", f"a {kind}-compressed joblib file")
    if kind in ("zlib", "lzma"):
        return None
    what = "a tar archive" if inner.startswith(b"ustar", 257) else _text_words(inner) or "something that is no pickle"
    return Look("", f"a {kind}-compressed file with {what} inside")


def compression_of(head: bytes) -> str:
    """zlib, gzip, bz2, lzma, xz, lz4 or '' by the first bytes; those joblib.dump can write."""
    if head[:1] == b"x" and len(head) > 1 and head[1] in (0x01, 0x5E, 0x9C, 0xDA):
        return "zlib"
    for kind, start in _COMPRESSED.items():
        if head.startswith(start):
            return kind
    return ""


_COMPRESSED = {
    "gzip": b"\x1f\x8b",
    "bz2": b"BZh",
    "lzma": b"]\x00\x00",
    "xz": b"\xfd7zXZ\x00",
    "lz4": b'\x04"M\x18',
}


class _ZlibFile(io.RawIOBase):
    """Read a bare zlib stream; the standard library has files for all of the others."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._stream = zlib.decompressobj()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        while not self._stream.eof:
            chunk = self._stream.unconsumed_tail or self._file.read(65_536)
            data = self._stream.decompress(chunk, len(view))
            if data:
                view[: len(data)] = data
                return len(data)
            if not chunk:
                raise EOFError("the zlib stream ends too early")
        return 0

    def close(self) -> None:
        self._file.close()
        super().close()


def open_compressed(path: str | Path, kind: str) -> IO[bytes]:
    """A file of one of the kinds of `compression_of`, but lz4, to be read as what is inside."""
    if kind == "zlib":
        return io.BufferedReader(_ZlibFile(Path(path).open("rb")), 2**20)
    if kind == "gzip":
        return io.BufferedReader(gzip.open(path, "rb"))
    if kind == "bz2":
        return bz2.open(path, "rb")
    return lzma.open(path, "rb")


# ModelProto of onnx.proto: field number -> wire type (0 a number, 2 length and bytes), as far as it is used today.
_ONNX_FIELDS = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
_ONNX_GRAPH = 7


def _look_at_onnx(file: IO[bytes], size: int) -> Look | None:
    """Walk the outermost fields of what may be a ModelProto, jumping over their contents."""
    file.seek(0)
    seen: set[int] = set()
    while file.tell() < size:
        tag = _varint(file)
        field, wire = (tag >> 3, tag & 7) if tag is not None else (0, 0)
        if _ONNX_FIELDS.get(field) != wire:
            return None
        length = _varint(file)
        if length is None:
            return None
        if wire == 2:
            if file.tell() + length > size:
                if _ONNX_GRAPH in seen | {field} and 1 in seen:
                    return Look("", f"an ONNX model that is cut off: it should go on after its {size} bytes")
                return None
            file.seek(length, os.SEEK_CUR)
        seen.add(field)
    if _ONNX_GRAPH not in seen:
        return None
    return Look("onnx", "an ONNX model")


def _varint(file: IO[bytes]) -> int | None:
    number = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            return None
        number |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return number
    return None


def _text_words(head: bytes) -> str:
    """What kind of text it is, or ''."""
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:
            return _safetensors_words(head)
        text = head[: error.start].decode()
    if any(ord(letter) < 32 and letter not in "\t\n\r\f" for letter in text):
        return _safetensors_words(head)
    start = text.lstrip()
    if start.startswith("<"):
        return "a PMML or other XML file" if "PMML" in text else "an XML or HTML file"
    if start.startswith("{") and '"learner"' in text:
        return "an XGBoost model in its JSON format"
    if start.startswith(("{", "[")):
        return "a JSON file"
    if text.startswith("version https://git-lfs"):
        return "a Git LFS pointer: the model itself was not fetched (git lfs pull)"
    return "a text file"


def _safetensors_words(head: bytes) -> str:
    if len(head) > 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**27:
        return "a safetensors file: weights without a model"
    return ""
