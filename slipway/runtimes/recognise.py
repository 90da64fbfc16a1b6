"""Which runtime takes a path, from what is in it. Runs in the supervisor: imports no framework, never unpickles."""

from __future__ import annotations

import ast
import re
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from slipway.errors import LoadFailure, SetupError, UnknownFormat
from slipway.runtimes.sniff import look

CLASS_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_FILE_CLASS = re.compile(r"(.+\.py):([A-Za-z_]\w*)")
_RUNTIME_OF = {
    "onnx": "onnx",
    "ort": "onnx",
    "pickle": "sklearn",
    "joblib": "sklearn",
    "skops": "sklearn",
    "python": "python",
}
CONVENTIONAL = ("model.onnx", "model.joblib", "model.pkl", "model.skops", "model.py")
_MOST_FILES = 200

KNOWN = (
    "known are: an ONNX model; a scikit-learn model saved with joblib, pickle, cloudpickle or skops; a Python file "
    "with one slipway.Model class, FILE.py:Class or module:Class; and a folder with exactly one of these, or with an "
    "MLflow MLmodel file"
)


class Found(NamedTuple):
    """`path`: the file itself, without a folder around it; for Python `FILE.py:Class` or `module:Class`.

    `format`: onnx, ort, pickle, joblib, skops or python.
    """

    runtime: str
    format: str
    path: str


def recognise(path: str) -> str:
    """The name of the runtime for `path`. Raises what `find_model` raises."""
    return find_model(path).runtime


def find_model_for(runtime: str, path: str) -> Found:
    """As `find_model`, for a runtime that was chosen by hand; LoadFailure where the model is for another."""
    found = find_model(path)
    if found.runtime != runtime:
        raise LoadFailure(f"{path!r} holds {found.format}, which is for the {found.runtime} runtime, not for {runtime}")
    return found


def find_model(path: str) -> Found:
    """The model that `path` means, and who can run it.

    Raises SetupError for a path that does not exist (with the nearest that does) or that means several models, and
    UnknownFormat, which says what the path looks like and lists what is known.
    """
    place = Path(path)
    try:
        if place.is_dir():
            return _in_folder(place)
        if place.exists():
            return _in_file(place)
    except PermissionError as error:
        raise SetupError(f"cannot read {error.filename or path!r}: permission denied") from error
    if CLASS_PATH.fullmatch(path):
        return Found("python", "python", path)
    named = _FILE_CLASS.fullmatch(path)
    if named:
        return _class_in_file(named[1], named[2])
    raise _missing(place)


def _missing(place: Path) -> SetupError:
    folder = place.parent
    while not folder.exists():
        place, folder = folder, folder.parent
    names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    near = get_close_matches(place.name, names, n=1, cutoff=0.5)
    hint = f"; did you mean {str(folder / near[0])!r}?" if near else ""
    return SetupError(f"there is no file or folder {str(place)!r}{hint}")


def _in_file(file: Path) -> Found:
    if not file.is_file():
        raise UnknownFormat(f"{str(file)!r} is neither a file nor a folder; {KNOWN}")
    seen = look(file)
    runtime = _RUNTIME_OF.get(seen.format)
    if runtime is None:
        raise UnknownFormat(f"{str(file)!r} looks like {seen.words}; {KNOWN}")
    if runtime == "python":
        return Found(runtime, seen.format, f"{file}:{_only_model_class(file)}")
    return Found(runtime, seen.format, str(file))


def _class_in_file(file: str, name: str) -> Found:
    place = Path(file)
    if not place.exists():
        raise _missing(place)
    names = model_classes(place)
    if name not in names:
        near = get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise SetupError(f"{file!r} defines no slipway.Model class {name!r}{hint}")
    return Found("python", "python", f"{file}:{name}")


def _in_folder(folder: Path) -> Found:
    if (folder / "MLmodel").is_file():
        return _in_mlflow(folder)
    names = [name for name in CONVENTIONAL if (folder / name).is_file()]
    if len(names) == 1:
        return _in_file(folder / names[0])
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    files = [entry for entry in entries if entry.is_file()]
    found = [file for file in files[:_MOST_FILES] if _holds_a_model(file)]
    if len(found) == 1:
        return _in_file(found[0])
    if found:
        listed = ", ".join(file.name for file in found)
        raise SetupError(f"{str(folder)!r} holds {len(found)} models ({listed}); give the path of one of them")
    versions = [entry for entry in entries if entry.is_dir() and entry.name.isdecimal()]
    if versions:
        return _in_folder(max(versions, key=lambda entry: int(entry.name)))
    raise UnknownFormat(f"{str(folder)!r} looks like {_folder_words(entries)}; {KNOWN}")


def _holds_a_model(file: Path) -> bool:
    seen = look(file)
    if seen.format == "python":
        return bool(model_classes(file))
    return bool(seen.format)


def _folder_words(entries: list[Path]) -> str:
    names = {entry.name for entry in entries}
    if {"saved_model.pb", "saved_model.pbtxt"} & names:
        return "a TensorFlow SavedModel folder"
    if "config.json" in names and any(name.endswith((".safetensors", ".bin")) for name in names):
        return "a Hugging Face model folder"
    if "mlruns" in names:
        return "a folder with MLflow runs; give the path of one model in it"
    if not names:
        return "an empty folder"
    listed = ", ".join(
        f"{entry.name} ({look(entry).words})" if entry.is_file() else entry.name + "/" for entry in entries[:5]
    )
    more = ", …" if len(entries) > 5 else ""
    files = "file" if len(entries) == 1 else "files"
    return f"a folder with {len(entries)} {files} and no model among them: {listed}{more}"


def _in_mlflow(folder: Path) -> Found:
    """MLflow's `MLmodel` is YAML of a narrow kind; two levels of indentation say which flavours there are."""
    flavors: dict[str, dict[str, str]] = {}
    inside, current = False, ""
    for line in (folder / "MLmodel").read_text(errors="replace").splitlines():
        key, _, value = line.strip().partition(":")
        depth = len(line) - len(line.lstrip())
        if depth == 0 and line.strip():
            inside = key == "flavors"
        elif inside and depth == 2:
            current = key
            flavors[current] = {}
        elif inside and depth == 4:
            flavors[current][key] = value.strip().strip("'\"")
    for flavor, key in (("sklearn", "pickled_model"), ("onnx", "data")):
        name = flavors.get(flavor, {}).get(key, "")
        file = folder / name
        if name and file.is_file() and file.resolve().is_relative_to(folder.resolve()):
            return _in_file(file)
        if name:
            raise SetupError(f"{str(folder / 'MLmodel')!r} names {name!r}, which is not in the folder")
    listed = ", ".join(sorted(flavors)) or "none"
    raise UnknownFormat(
        f"{str(folder)!r} looks like an MLflow model of the flavours {listed}, of which only sklearn and onnx are "
        f"served; {KNOWN}"
    )


def _only_model_class(file: Path) -> str:
    names = model_classes(file)
    if len(names) == 1:
        return names[0]
    if not names:
        raise UnknownFormat(f"{str(file)!r} looks like a Python file without a slipway.Model class; {KNOWN}")
    raise SetupError(
        f"{str(file)!r} defines {len(names)} slipway.Model classes ({', '.join(names)}); say which: {file}:{names[0]}"
    )


def model_classes(file: Path) -> list[str]:
    """Names of the classes of a Python file that descend from slipway.Model and from which none here descends.

    Read from the syntax tree, so nothing is run. Raises SetupError where it does not parse.
    """
    try:
        tree = ast.parse(file.read_bytes(), str(file))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        raise SetupError(f"{str(file)!r} is not valid Python: {error}" + (f" (line {line})" if line else "")) from error
    models = _names_of_model(tree)
    names: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            bases = {ast.unparse(base) for base in node.bases}
            if bases & (models | set(names)):
                names = [name for name in names if name not in bases]
                names.append(node.name)
                models.add(node.name)
    return names


def _names_of_model(tree: ast.Module) -> set[str]:
    """What slipway.Model is called in this file."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in ("slipway", "slipway.runtimes.model"):
            names |= {alias.asname or alias.name for alias in node.names if alias.name == "Model"}
        elif isinstance(node, ast.Import):
            names |= {f"{alias.asname or 'slipway'}.Model" for alias in node.names if alias.name == "slipway"}
    return names
