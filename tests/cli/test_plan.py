from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import msgspec
import pytest

from slipway.cli.options import ServeOptions
from slipway.cli.plan import name_of, plan_server, split_name, versions_in
from slipway.errors import SetupError
from slipway.spec.serve import Doors, ModelSpec, ReplicaSpec, ServerSpec


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("iris.onnx", "churn v2.joblib", "lr=0.1.onnx"):
        (tmp_path / name).touch()
    (tmp_path / "forest").mkdir()
    return tmp_path


def plan(*paths: str, **given: object) -> ServerSpec:
    return plan_server(ServeOptions(paths=list(paths), **given))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("typed", "name", "path"),
    [
        ("iris.onnx", "iris", "iris.onnx"),
        ("flowers=iris.onnx", "flowers", "iris.onnx"),
        ("churn v2.joblib", "churn-v2", "churn v2.joblib"),
        ("lr=0.1.onnx", "lr-0.1", "lr=0.1.onnx"),
        ("./iris.onnx", "iris", "iris.onnx"),
        ("forest", "forest", "forest"),
    ],
)
def test_names_and_paths(folder: Path, typed: str, name: str, path: str) -> None:
    (model,) = plan(typed).models
    assert (model.name, model.version) == (name, "v1")
    assert model.path == str(folder / path)


@pytest.mark.usefixtures("folder")
def test_code_is_no_file() -> None:
    (model,) = plan("my_models.ranking:DeepRanker").models
    assert (model.name, model.path) == ("deepranker", "my_models.ranking:DeepRanker")
    (named,) = plan("r=my_models:Ranker").models
    assert (named.name, named.path) == ("r", "my_models:Ranker")


def test_a_class_in_a_file_means_the_same_from_everywhere(folder: Path) -> None:
    (folder / "ranker.py").touch()
    (model,) = plan("ranker.py:Ranker").models
    assert (model.name, model.path) == ("ranker", f"{folder}/ranker.py:Ranker")


def test_numbered_folders_are_versions(folder: Path) -> None:
    for number in ("1", "2", "10", "01", "x"):
        (folder / "forest" / number).mkdir()
        (folder / "forest" / number / "model.onnx").touch()
    (folder / "forest" / "10" / "weights.bin").touch()
    found = plan("forest").models
    assert [(model.name, model.version) for model in found] == [("forest", "v1"), ("forest", "v2"), ("forest", "v10")]
    assert found[0].path == str(folder / "forest" / "1" / "model.onnx")
    assert found[2].path == str(folder / "forest" / "10")
    assert versions_in(str(folder / "iris.onnx")) == [("v1", str(folder / "iris.onnx"))]


@pytest.mark.parametrize(
    ("paths", "given", "words"),
    [
        (("iris.onxn",), {}, "did you mean iris.onnx?"),
        (("nowhere/iris.onnx",), {}, "there is no 'nowhere/iris.onnx'"),
        (("iris.onnx", "forest"), {"name": "both"}, "--name names one model, but 2 are given"),
        (("iris.onnx", "iris=forest"), {}, "two models are called 'iris'"),
        (("iris.onnx",), {"name": "no spaces"}, "'no spaces' cannot name a model"),
        (("iris.onnx",), {"option": ["threads"]}, "--option 'threads' is not KEY=VALUE"),
        (("iris.onnx",), {"port": 9000, "grpc_port": 9000}, "must differ"),
        (("iris.onnx",), {"grpc_door": "carrier"}, "native"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_what_cannot_be_served_is_said_in_a_line(paths: tuple[str, ...], given: dict[str, object], words: str) -> None:
    with pytest.raises(SetupError) as caught:
        plan(*paths, **given)
    assert words in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.usefixtures("folder")
def test_options_arrive_in_the_units_of_the_spec() -> None:
    spec = plan(
        "iris.onnx",
        slo_ms=20.0,
        max_batch_delay_ms=1.5,
        queue_mb=2.0,
        memory_mb=512.0,
        max_head_kb=8.0,
        not_idempotent=True,
        option=["a=b=c"],
        allow_read=["data"],
    )
    (model,) = spec.models
    assert (model.batching.slo_s, model.batching.max_delay_s) == (0.02, 0.0015)
    assert (model.queue.bytes, model.replicas.memory_bytes, spec.doors.max_head_bytes) == (2 << 20, 512 << 20, 8 << 10)
    assert model.idempotent is False
    assert model.options == {"a": "b=c"}
    assert Path(model.replicas.allow_read[0]).is_absolute()


@pytest.mark.usefixtures("folder")
def test_defaults_of_the_options_are_those_of_the_spec() -> None:
    given = plan("iris.onnx")
    (model,) = given.models
    assert given == ServerSpec(models=(model,))
    assert model == ModelSpec(name="iris", path=model.path)


def test_every_field_of_the_spec_can_be_given() -> None:
    """A setting that only code can reach is one that nobody can use."""
    renamed = {"count": "replicas", "http_port": "port", "cors_origins": "cors_origin", "options": "option"}
    renamed |= {"idempotent": "not_idempotent", "models": "paths", "path": "paths", "version": "paths"}
    units = {"max_delay_s": "max_batch_delay_ms", "slo_s": "slo_ms", "max_rows": "max_batch_rows"}
    units |= {"max_body_bytes": "max_body_mb", "max_head_bytes": "max_head_kb", "memory_bytes": "memory_mb"}
    parts = {"replicas", "batching", "queue", "cache", "doors"}
    declared = {"environment", "tls"}  # `env` of a deployment's spec, `tls` of a server's configuration
    known = {field.name for field in fields(ServeOptions)} | declared
    for struct in (ServerSpec, ModelSpec, ReplicaSpec, Doors):
        for field in msgspec.structs.fields(struct):
            name = renamed.get(field.name) or units.get(field.name) or field.name
            assert name in known or name in parts, f"{struct.__name__}.{field.name} has no option"


@pytest.mark.parametrize(
    ("path", "name"), [("a.b/модель.onnx", "model"), ("/x/.hidden.onnx", "hidden"), ("pkg:Cls", "cls"), ("/", "model")]
)
def test_a_name_can_always_be_made(path: str, name: str) -> None:
    assert name_of(path) == name


@pytest.mark.usefixtures("folder")
def test_an_equals_sign_in_a_path_is_no_name() -> None:
    assert split_name("runs/lr=0.1/m.onnx") == ("", "runs/lr=0.1/m.onnx")
    assert split_name("a=b=c") == ("a", "b=c")
