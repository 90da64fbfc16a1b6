"""What an artifact is, in one canonical form: its files with their hashes, and the digest that names them all.

Server and client both compute it, so a client knows a model's digest before it sends a byte, and the server believes
nobody. The form is JSON as RFC 8785 (JSON Canonicalization Scheme) writes it: a list of objects sorted by path, keys
sorted, no spaces, UTF-8. What a path may look like is decided here too, once, for uploads, folders and buckets.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from slipway.errors import InvalidSpec
from slipway.spec.resources import UploadFile

MAX_FILES = 10_000
MAX_PATH_BYTES = 1024
MAX_NAME_BYTES = 255
MAX_BYTES = 4 * 2**40
EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

_HEX = re.compile(r"[0-9a-f]{64}\Z")
_PREFIX = "sha256:"
_SHOWN = 10
# They make one name look like another where it is printed.
_DIRECTION = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def check_files(files: Iterable[UploadFile]) -> list[UploadFile]:
    """The same, sorted by path. Raises InvalidSpec with a problem for each file that cannot be."""
    found = sorted(files, key=lambda file: file.path)
    check_paths([file.path for file in found])
    problems = [f"{_shown(file.path)}: {problem}" for file in found if (problem := _content_problem(file))]
    problems = problems or list(_two_sizes(found))
    if not problems and sum(file.size_bytes for file in found) > MAX_BYTES:
        problems = [f"all files together are larger than {MAX_BYTES} bytes"]
    _refuse(problems)
    return found


def check_paths(paths: Sequence[str]) -> None:
    """Of all files of an artifact. Raises InvalidSpec with a problem for each that cannot be."""
    if not paths:
        raise InvalidSpec("an artifact has at least one file, and this one has none")
    if len(paths) > MAX_FILES:
        raise InvalidSpec(f"an artifact has at most {MAX_FILES} files, and this one has {len(paths)}")
    problems = [f"{_shown(path)}: {problem}" for path in paths if (problem := check_path(path))]
    _refuse(problems or list(_clashes(paths)))


def _refuse(problems: list[str]) -> None:
    if problems:
        more = [f"… and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        shown = [*problems[:_SHOWN], *more]
        raise InvalidSpec("this cannot be an artifact: " + "; ".join(shown), problems=tuple(shown))


def check_path(path: str) -> str:
    """What is wrong with a file's path in an artifact, '' if nothing is. Right is relative, with forward slashes."""
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        return "the name is not UTF-8; rename the file"
    if not path:
        return "the path is empty"
    if size > MAX_PATH_BYTES:
        return f"the path has {size} bytes; {MAX_PATH_BYTES} are allowed"
    if path.startswith("/"):
        return "the path is absolute; it must be relative to the model"
    if "\\" in path:
        return "the path has a backslash; names are separated by /"
    bad = next((c for c in path if c in _DIRECTION or unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")), "")
    if bad:
        return f"the path has the control character U+{ord(bad):04X}"
    for name in path.split("/"):
        if name in ("", ".", ".."):
            return f"{name!r} is no name in a path"
        if len(name.encode()) > MAX_NAME_BYTES:
            return f"a name in the path has more than {MAX_NAME_BYTES} bytes"
    return ""


def check_sha256(text: str) -> str:
    """64 lower-case hex digits; raises InvalidSpec for anything else."""
    if not _HEX.match(text):
        raise InvalidSpec(f"{text[:80]!r} is not a SHA-256: 64 hex digits, lower case")
    return text


def digest_hex(digest: str) -> str:
    """The 64 hex digits of `sha256:…`, also when written in capitals; raises InvalidSpec for anything else."""
    text = digest.strip().lower()
    if not text.startswith(_PREFIX) or not _HEX.match(text[len(_PREFIX) :]):
        raise InvalidSpec(f"{digest[:80]!r} is not a digest: sha256: and 64 hex digits")
    return text[len(_PREFIX) :]


def manifest_bytes(files: Sequence[UploadFile]) -> bytes:
    """The canonical form. `files` as `check_files` returns them."""
    form = [
        {
            "executable": file.executable,
            "path": file.path,
            "sha256": file.sha256,
            "size_bytes": file.size_bytes,
        }
        for file in files
    ]
    return json.dumps(form, ensure_ascii=False, separators=(",", ":")).encode()


def read_manifest(data: bytes) -> list[UploadFile]:
    """The files of a canonical form, checked. Raises InvalidSpec."""
    try:
        files = msgspec.json.decode(data, type=list[UploadFile])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidSpec(f"this is not the manifest of an artifact: {error}") from None
    return check_files(files)


def manifest_digest(files: Sequence[UploadFile]) -> str:
    """`sha256:` and the hash of the canonical form. `files` as `check_files` returns them."""
    return _PREFIX + hashlib.sha256(manifest_bytes(files)).hexdigest()


def is_pinned_by(files: Sequence[UploadFile], digest: str) -> bool:
    """Whether `digest` names this artifact. What `sha256sum` says of a file names the artifact of that one file too,
    since that is what people have at hand."""
    wanted = digest_hex(digest)
    return manifest_digest(files) == _PREFIX + wanted or (len(files) == 1 and files[0].sha256 == wanted)


def _content_problem(file: UploadFile) -> str:
    if not _HEX.match(file.sha256):
        return f"{file.sha256[:80]!r} is not a SHA-256: 64 hex digits, lower case"
    if not 0 <= file.size_bytes <= MAX_BYTES:
        return f"size_bytes is {file.size_bytes}; a file has 0 to {MAX_BYTES}"
    if (file.size_bytes == 0) != (file.sha256 == EMPTY_SHA256):
        return "size_bytes and sha256 contradict each other: one says that the file is empty, the other that it is not"
    return ""


def _clashes(paths: Sequence[str]) -> Iterator[str]:
    """Names that are one and the same on some file system: by case, by Unicode form, or a file that is a folder too."""
    folders: dict[str, str] = {}
    files: dict[str, str] = {}
    for path in paths:
        names = path.split("/")
        for depth in range(1, len(names)):
            folder = "/".join(names[:depth])
            known = folders.setdefault(_folded(folder), folder)
            if known != folder:
                yield f"{_shown(folder)}: differs from the folder {_shown(known)} only in case or Unicode form"
                folders[_folded(folder)] = folder  # said once
        other = files.get(_folded(path))
        if other is not None:
            reason = "is there twice" if other == path else f"differs from {_shown(other)} only in case or Unicode form"
            yield f"{_shown(path)}: {reason}"
        files[_folded(path)] = path
    for key in files.keys() & folders.keys():
        yield f"{_shown(files[key])}: is a file, and there are files below {_shown(folders[key])}/"


def _two_sizes(files: list[UploadFile]) -> Iterator[str]:
    sizes: dict[str, UploadFile] = {}
    for file in files:
        other = sizes.setdefault(file.sha256, file)
        if other.size_bytes != file.size_bytes:
            yield f"{_shown(file.path)}: has the sha256 of {_shown(other.path)} and another size"


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def _shown(path: str) -> str:
    """For messages: no control character reaches a log as it is."""
    return ascii(path[:120]) if check_path(path) else repr(path[:120])
