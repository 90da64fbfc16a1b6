"""Which runtime takes which path, whatever it is called; and what is said of paths that none takes."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import joblib
import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LinearRegression

from slipway.errors import SetupError, UnknownFormat
from slipway.runtimes.recognise import CONVENTIONAL, find_model, recognise

IRIS = Path(__file__).parents[2] / "examples" / "iris" / "iris.onnx"
MODEL = LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0])
CLASS = "from slipway import Model\n\n\nclass Doubler(Model):\n    pass\n"


def saved(path: Path, kind: str) -> Path:
    if kind == "onnx":
        path.write_bytes(IRIS.read_bytes())
    elif kind.startswith("pickle"):
        path.write_bytes(pickle.dumps(MODEL, int(kind[-1])))
    elif kind == "skops":
        skops.io.dump(MODEL, path)
    elif kind == "python":
        path.write_text(CLASS)
    else:
        joblib.dump(MODEL, path, compress=0 if kind == "raw" else (kind, 3))
    return path


FORMATS = {
    "onnx": ("onnx", "onnx"),
    **{f"pickle{protocol}": ("sklearn", "pickle") for protocol in range(6)},
    "raw": ("sklearn", "joblib"),
    **dict.fromkeys(("zlib", "gzip", "bz2", "lzma", "xz"), ("sklearn", "joblib")),
    "skops": ("sklearn", "skops"),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_the_content_decides_and_not_the_name(tmp_path: Path, kind: str) -> None:
    path = saved(tmp_path / "weights.bin", kind)
    found = find_model(str(path))
    assert found == (*FORMATS[kind], str(path))
    assert recognise(str(path)) == FORMATS[kind][0]


@pytest.mark.parametrize("kind", [*FORMATS, "python"])
def test_a_folder_with_one_model_among_other_things(tmp_path: Path, kind: str) -> None:
    (tmp_path / "README.md").write_text("hello")
    (tmp_path / "metrics.json").write_text("{}")
    (tmp_path / "train.py").write_text("print('no model here')")
    (tmp_path / ".hidden.onnx").write_bytes(IRIS.read_bytes())
    path = saved(tmp_path / ("thing.py" if kind == "python" else "thing"), kind)
    found = find_model(str(tmp_path))
    assert found.path == (f"{path}:Doubler" if kind == "python" else str(path))


def test_a_conventional_name_wins_over_neighbours(tmp_path: Path) -> None:
    saved(tmp_path / "model.onnx", "onnx")
    saved(tmp_path / "scaler.pkl", "pickle5")
    assert find_model(str(tmp_path)).path == str(tmp_path / "model.onnx")
    assert all(name.startswith("model.") for name in CONVENTIONAL)


def test_a_folder_of_numbered_versions_means_the_newest(tmp_path: Path) -> None:
    (tmp_path / "config.pbtxt").write_text('name: "iris"')
    for version in ("2", "10"):
        (tmp_path / version).mkdir()
        saved(tmp_path / version / "model.onnx", "onnx")
    assert find_model(str(tmp_path)).path == str(tmp_path / "10" / "model.onnx")


def test_several_models_in_a_folder_are_listed(tmp_path: Path) -> None:
    saved(tmp_path / "a.onnx", "onnx")
    saved(tmp_path / "b.pkl", "pickle5")
    with pytest.raises(SetupError, match=r"holds 2 models \(a.onnx, b.pkl\); give the path of one"):
        find_model(str(tmp_path))


def test_mlflow_models_by_their_flavour(tmp_path: Path) -> None:
    saved(tmp_path / "model.pkl", "pickle5")
    (tmp_path / "MLmodel").write_text(
        "artifact_path: model\nflavors:\n  python_function:\n    env:\n      conda: conda.yaml\n"
        "  sklearn:\n    code: null\n    pickled_model: model.pkl\n    serialization_format: cloudpickle\nrun_id: 1\n"
    )
    assert find_model(str(tmp_path)) == ("sklearn", "pickle", str(tmp_path / "model.pkl"))
    (tmp_path / "MLmodel").write_text("flavors:\n  keras:\n    data: data\n  python_function:\n    env: x\n")
    with pytest.raises(UnknownFormat, match="an MLflow model of the flavours keras, python_function"):
        find_model(str(tmp_path))
    (tmp_path / "MLmodel").write_text("flavors:\n  sklearn:\n    pickled_model: ../../model.pkl\n")
    with pytest.raises(SetupError, match=r"names '../../model.pkl', which is not in the folder"):
        find_model(str(tmp_path))


def test_python_classes(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import slipway\nfrom slipway import Model as Base\n\n"
        "class Shared(Base): pass\nclass One(Shared): pass\nclass Plain: pass\n"
    )
    assert find_model(str(file)) == ("python", "python", f"{file}:One")
    file.write_text(file.read_text() + "class Two(slipway.Model): pass\n")
    with pytest.raises(SetupError, match=rf"2 slipway.Model classes \(One, Two\); say which: {file}:One"):
        find_model(str(file))
    assert find_model(f"{file}:Two").path == f"{file}:Two"
    with pytest.raises(SetupError, match=r"no slipway\.Model class 'Tow'; did you mean 'Two'"):
        find_model(f"{file}:Tow")
    assert find_model("package.module:Thing") == ("python", "python", "package.module:Thing")


def test_a_python_file_that_does_not_parse_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("x = 1\nclass Model(:\n")
    with pytest.raises(SetupError, match=r"not valid Python.*line 2"):
        find_model(str(tmp_path / "bad.py"))


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros(2))
    return buffer.getvalue()


def archive(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name, data in files.items():
            made.writestr(name.replace("__", "/").replace("_DOT_", "."), data)
    return buffer.getvalue()


def tarball() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as made:
        made.addfile(tarfile.TarInfo("model.onnx"))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "an empty file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), "an HDF5 file"),
        (b"GGUF" + bytes(60), "a GGUF language model"),
        (bytes(4) + b"TFL3" + bytes(60), "a TensorFlow Lite model"),
        (archive(archive__data_DOT_pkl=b"", archive__version=b"3"), "a PyTorch zip archive"),
        (archive(net__data_DOT_pkl=b"", net__constants_DOT_pkl=b""), "a TorchScript archive"),
        (archive(config_DOT_json=b"{}", model_DOT_weights_DOT_h5=b""), "a Keras 3 archive"),
        (archive(a=b"", b=b""), "a zip archive with 2 files"),
        (archive(a=b"")[:20], "a damaged zip archive"),
        (npz(), "an archive of numpy arrays"),
        (tarball(), "a gzip-compressed file with a tar archive inside"),
        (gzip.compress(b"just words"), "a gzip-compressed file with a text file inside"),
        (gzip.compress(pickle.dumps(MODEL))[:30], "a damaged gzip file"),
        ((60).to_bytes(8, "little") + b'{"w":{"dtype":"F32"}}' + bytes(60), "a safetensors file"),
        (json.dumps({"learner": {}}).encode(), "an XGBoost model in its JSON format"),
        (b'<?xml version="1.0"?><PMML version="4.4">', "a PMML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "a Git LFS pointer"),
        (b"tree\nversion=v4\n", "a LightGBM model"),
        (b"x,y\n1,2\n", "a text file"),
        (b"(these are words)\n", "a text file"),
        (b"x = 1", "a text file"),
        (b"\x80\x09" + bytes(60), "a pickle of protocol 9"),
        (bytes(range(200, 232)), "a binary file that begins with c8 c9"),
        (IRIS.read_bytes()[:600], "an ONNX model that is cut off"),
    ],
)
def test_what_no_runtime_takes_is_named(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "model.xyz"
    path.write_bytes(data)
    with pytest.raises(UnknownFormat, match="known are: an ONNX model") as caught:
        find_model(str(path))
    assert f"looks like {words}" in caught.value.message


def test_folders_that_no_runtime_takes_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownFormat, match="looks like an empty folder"):
        find_model(str(tmp_path))
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UnknownFormat, match=r"a folder with 1 file and no model among them: notes.txt \(a text file\)"):
        find_model(str(tmp_path))
    (tmp_path / "saved_model.pb").write_bytes(bytes(9))
    with pytest.raises(UnknownFormat, match="a TensorFlow SavedModel folder"):
        find_model(str(tmp_path))


def test_a_path_that_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    saved(tmp_path / "iris.onnx", "onnx")
    with pytest.raises(
        SetupError, match=rf"no file or folder '{tmp_path}/irsi.onnx'; did you mean '{tmp_path}/iris.onnx'"
    ):
        find_model(str(tmp_path / "irsi.onnx"))
    with pytest.raises(SetupError, match="there is no file or folder"):
        find_model(str(tmp_path / "zzz" / "qqq.onnx"))


def test_recognising_imports_no_framework_and_runs_nothing(tmp_path: Path) -> None:
    """In a process of its own, as the supervisor does it, over one file of each kind."""
    for kind in FORMATS:
        saved(tmp_path / f"{kind}.bin", kind)
    (tmp_path / "mine.py").write_text(CLASS + "raise SystemExit('imported')\n")
    code = (
        "import sys, pathlib\nfrom slipway.runtimes.recognise import recognise\n"
        f"for path in sorted(pathlib.Path({str(tmp_path)!r}).iterdir()): print(path.stem, recognise(str(path)))\n"
        "heavy = {'numpy', 'sklearn', 'onnxruntime', 'onnx', 'joblib', 'pandas', 'asyncio'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(FORMATS) + 1
