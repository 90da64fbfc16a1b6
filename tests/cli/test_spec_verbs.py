from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from serving import ROOT

from slipway.cli.diff import local_artifact, rendered
from slipway.spec.diff import Change
from slipway.spec.manifest import manifest_digest

RUN = """
import sys
from slipway.cli.exits import Ended, complain, status_of
from slipway.cli.group import command_of
from slipway.errors import SlipwayError
try:
    command_of(sys.argv[1], sys.argv[2])(sys.argv[3:], prog_name="slipway")
except (SlipwayError, Ended) as error:
    complain(error)
    sys.exit(status_of(error))
"""
HOMES = {name: f"{name}:{name}" for name in ("init", "validate", "diff", "schema")}
HOMES["import"] = "import_gradient:gradient"


class Ran:
    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr
        assert "Traceback" not in self.err


def slipway(verb: str, *arguments: str, stdin: str = "", **environment: str) -> Ran:
    return Ran(
        subprocess.run(
            [sys.executable, "-c", RUN, verb, HOMES[verb], *arguments],
            capture_output=True,
            text=True,
            check=False,
            input=stdin,
            env=os.environ | environment,
            timeout=60,
        )
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "examples" / "iris" / "iris.onnx", tmp_path)
    return tmp_path


def write(name: str, text: str) -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)
    return name


# --- init ---------------------------------------------------------------------------------------------------------


def test_init_then_validate(folder: Path) -> None:
    made = slipway("init", "iris.onnx")
    assert made.status == 0
    assert "wrote slipway.yaml" in made.err
    checked = slipway("validate", "slipway.yaml")
    assert (checked.status, checked.out) == (0, "slipway.yaml: iris is right (./iris.onnx, runtime onnx)\n")
    assert oct((folder / "slipway.yaml").stat().st_mode & 0o044) != "0o0"


def test_init_does_not_overwrite(folder: Path) -> None:
    (folder / "slipway.yaml").write_text("mine")
    refused = slipway("init", "iris.onnx")
    assert refused.status != 0
    assert "slipway.yaml is there already; --force writes over it" in refused.err
    assert (folder / "slipway.yaml").read_text() == "mine"
    assert slipway("init", "iris.onnx", "--force").status == 0
    assert "name: iris" in (folder / "slipway.yaml").read_text()
    assert sorted(file.name for file in folder.iterdir()) == ["iris.onnx", "slipway.yaml"]


def test_init_writes_a_path_as_seen_from_the_spec(folder: Path) -> None:
    (folder / "specs").mkdir()
    assert slipway("init", "iris.onnx", "--output", "specs/a.yaml", "--name", "flowers").status == 0
    assert "model: ../iris.onnx" in (folder / "specs" / "a.yaml").read_text()
    assert slipway("validate", "specs").out.startswith("specs/a.yaml: flowers is right")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["irs.onnx"], "did you mean 'iris.onnx'?"),
        (["iris.onnx", "--name", "a/b"], "--name 'a/b' cannot name a deployment; write letters, digits"),
        (["iris.onnx", "--output", "none/such.yaml"], "none/such.yaml cannot be written: No such file"),
    ],
)
def test_init_says_what_is_wrong(arguments: list[str], said: str) -> None:
    ran = slipway("init", *arguments)
    assert ran.status == 2
    assert said in ran.err


@pytest.mark.usefixtures("folder")
def test_init_of_what_is_not_here() -> None:
    code = slipway("init", "my_models.ranking:Ranker", "--output", "-")
    assert "name: ranker\n" in code.out
    assert "model: my_models.ranking:Ranker\n" in code.out
    assert "runtime: python\n" in code.out
    url = slipway("init", "s3://models/churn.joblib", "--output", "-")
    assert "name: churn\n" in url.out
    assert "runtime: auto\n" in url.out


# --- validate -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("folder")
def test_validate_says_everything_at_once_and_where() -> None:
    write("bad.yaml", "name: a/b\nreplica: 2\n")
    write("gone.yaml", "name: gone\nmodel: ./irs.onnx\nruntime: onx\nfiles: {x.txt: ./x.txt}\n")
    ran = slipway("validate", "bad.yaml", "gone.yaml")
    assert ran.status == 2
    lines = ran.out.splitlines()
    assert lines[0].startswith("bad.yaml:1:7: name is 'a/b'; write letters")
    assert lines[1] == "bad.yaml:2:1: a deployment has no 'replica'; did you mean 'replicas'?"
    assert lines[2] == "bad.yaml:1:1: this has no model; it has to be given, such as ./iris.onnx"
    assert lines[3] == "gone.yaml:3:10: runtime 'onx' is not known; did you mean onnx?"
    assert lines[4] == "gone.yaml:4:16: there is no './x.txt', which is to be 'x.txt' beside the model"
    assert lines[5].startswith("gone.yaml:2:8: there is no file or folder ")
    assert lines[5].endswith("iris.onnx'?")
    assert len(lines) == 6
    assert "6 problems" in ran.err


def test_validate_compares_digests(folder: Path) -> None:
    digest = hashlib.sha256((folder / "iris.onnx").read_bytes()).hexdigest()
    write("good.yaml", f"name: iris\nmodel: iris.onnx\ndigest: sha256:{digest}\n")
    assert slipway("validate", "good.yaml").status == 0
    whole = manifest_digest(local_artifact("iris.onnx", folder))
    write("good.yaml", f"name: iris\nmodel: iris.onnx\ndigest: {whole}\n")
    assert slipway("validate", "good.yaml").status == 0
    write("bad.yaml", f"name: iris\nmodel: iris.onnx\ndigest: sha256:{'0' * 64}\n")
    ran = slipway("validate", "bad.yaml")
    assert ran.status == 2
    assert ran.out.startswith(f"bad.yaml:3:9: the digest of iris.onnx is {whole}, not sha256:000")


@pytest.mark.usefixtures("folder")
def test_validate_says_what_it_could_not_check() -> None:
    write("a.yaml", "name: a\nmodel: s3://m/a.onnx\nenv: {T: {secret: t}}\n---\nname: b\nmodel: my_models:Ranker\n")
    ran = slipway("validate", "a.yaml", "-o", "json")
    assert ran.status == 0
    (report,) = json.loads(ran.out)
    assert [one["name"] for one in report["deployments"]] == ["a", "b"]
    assert report["deployments"][0]["unchecked"] == [
        "the model, which is fetched when it is deployed",
        "that the server has the secret t",
    ]
    assert "imported" in report["deployments"][1]["unchecked"][0]
    assert report["problems"] == []


@pytest.mark.usefixtures("folder")
def test_validate_warns_of_what_is_perhaps_not_meant() -> None:
    write("a.yaml", "name: a\nmodel: iris.onnx\nreplicas: {max: 3}\nsandbox: {enabled: false, trust_pickle: true}\n")
    ran = slipway("validate", "a.yaml")
    assert ran.status == 0
    warnings = [line for line in ran.out.splitlines() if line.startswith("  warning: ")]
    assert len(warnings) == 3
    assert warnings[0] == "  warning: autoscaling is kept and not followed yet: what runs is replicas.min, which is 1"


@pytest.mark.usefixtures("folder")
def test_validate_notices_a_model_of_another_kind_and_a_name_in_two_files() -> None:
    write("a.yaml", "name: iris\nmodel: iris.onnx\nruntime: sklearn\n")
    write("b.yaml", "name: iris\nmodel: iris.onnx\n")
    ran = slipway("validate", "a.yaml", "b.yaml")
    assert ran.status == 2
    assert "holds onnx, which is for the onnx runtime, not for sklearn" in ran.out
    assert "b.yaml: deployment 'iris' is in a.yaml too; keep one" in ran.out


@pytest.mark.usefixtures("folder")
def test_validate_reads_standard_input_and_refuses_what_is_not_there() -> None:
    assert slipway("validate", "-", stdin="name: iris\nmodel: iris.onnx\n").status == 0
    ran = slipway("validate", "nowhere.yaml")
    assert ran.status == 2
    assert "nowhere.yaml: there is no such file" in ran.err


@pytest.mark.usefixtures("folder")
def test_a_spec_of_10_mb() -> None:
    write("large.yaml", "x" * 10 * 2**20)
    ran = slipway("validate", "large.yaml")
    assert ran.status == 2
    assert "large.yaml: has 10485760 bytes; a spec has at most 1048576 (1 MiB)" in ran.out


# --- schema -------------------------------------------------------------------------------------------------------


def test_schema() -> None:
    spec, server = slipway("schema"), slipway("schema", "--server-config")
    assert "replicas" in json.loads(spec.out)["properties"]
    assert "ports" in json.loads(server.out)["properties"]


# --- diff ---------------------------------------------------------------------------------------------------------


class FakeApi(BaseHTTPRequestHandler):
    """Answers with the deployments of its server: what `slipway diff` asks for, and nothing else."""

    def do_GET(self) -> None:
        found = self.server.deployments.get(self.path.split("?")[0].rpartition("/")[2])  # type: ignore[attr-defined]
        body = found or {"code": "not_found", "status": 404, "title": "Not found", "detail": "no such", "type": ""}
        data = json.dumps(body).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json" if found else "application/problem+json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def api() -> Iterator[Any]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeApi)
    server.deployments = {}  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def deployment(spec: dict[str, Any], digest: str) -> dict[str, Any]:
    version = {
        "deployment": spec["name"],
        "version": "v1",
        "number": 1,
        "state": "live",
        "progress": 1.0,
        "error": "",
        "digest": digest,
        "source": spec["model"],
        "size_bytes": 1,
        "platform": "",
        "settings": {},
        "created_at": 1.0,
        "created_by": "owner",
    }
    return {
        "name": spec["name"],
        "state": "ready",
        "reason": "",
        "revision": 1,
        "spec": spec,
        "live": "v1",
        "target": "v1",
        "created_at": 1.0,
        "updated_at": 1.0,
        "updated_by": "owner",
        "versions": [version],
    }


def differ(api: Any, *arguments: str) -> Ran:
    return slipway("diff", *arguments, "--server", f"http://127.0.0.1:{api.server_port}")


def test_diff(folder: Path, api: Any) -> None:
    digest = manifest_digest(local_artifact("iris.onnx", folder))
    api.deployments["iris"] = deployment({"name": "iris", "model": "iris.onnx"}, digest)
    write("iris.yaml", "name: iris\nmodel: iris.onnx\n")
    same = differ(api, "iris.yaml")
    assert (same.status, same.out) == (0, "iris: nothing differs\n"), same.err
    write("iris.yaml", "name: iris\nmodel: iris.onnx\nreplicas: {min: 2}\n")
    live = differ(api, "iris.yaml")
    assert live.status == 1
    assert live.out == "iris: no new version, it would apply at once\n  replicas.min: 1 → 2\n"
    write("iris.yaml", "name: iris\nmodel: iris.onnx\nbatching: {max_rows: 8}\n")
    assert differ(api, "iris.yaml").out == "iris: a new version\n  batching.max_rows: 64 → 8\n"


def test_diff_sees_a_model_that_changed_under_its_name(folder: Path, api: Any) -> None:
    api.deployments["iris"] = deployment({"name": "iris", "model": "iris.onnx"}, "sha256:" + "0" * 64)
    write("iris.yaml", "name: iris\nmodel: iris.onnx\n---\nname: new\nmodel: iris.onnx\n")
    ran = differ(api, "iris.yaml", "-o", "json")
    assert ran.status == 1
    changed, new = json.loads(ran.out)
    assert (changed["state"], changed["new_version"]) == ("changed", True)
    assert changed["changes"][0]["field"] == "content of model"
    assert changed["changes"][0]["new"] == manifest_digest(local_artifact("iris.onnx", folder))
    assert (new["name"], new["state"]) == ("new", "new")


def test_a_terminal_gets_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert rendered(Change("a", "1", "2")) == "a: \x1b[31m1\x1b[0m → \x1b[32m2\x1b[0m"
    assert rendered(Change("a", "", "x\x1b[2J")) == "a: added, \x1b[32mx\\x1b[2J\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert rendered(Change("a", "1", "2")) == "a: 1 → 2"


# --- import gradient ----------------------------------------------------------------------------------------------

GRADIENT = """image: tensorflow/serving
port: 8501
models: [{id: mos123, path: /opt/models/trained-model/}]
resources: {replicas: 2, instanceType: C4}
"""


@pytest.mark.usefixtures("folder")
def test_import_gives_specs_to_the_pipe_and_the_rest_to_the_person() -> None:
    write("churn.yaml", GRADIENT)
    ran = slipway("import", "churn.yaml")
    assert ran.status == 0
    assert ran.out.startswith("apiVersion: slipway.dev/v1\nname: churn\nmodel: ./trained-model\n")
    assert "resources.replicas → replicas.min = 2" in ran.err
    assert "churn.yaml:1:8: image is left out: images and commands wait until processes can be deployed" in ran.err
    assert ran.err.endswith("1 deployment, 4 gaps\n")


def test_import_writes_a_file_for_each(folder: Path) -> None:
    write("old/spec.yaml", GRADIENT)
    write("old/run.sh", "gradient deployments create --name N --projectId P --spec spec.yaml\n")
    assert slipway("import", "old/run.sh", "--output-dir", "specs/new").status == 0
    made = (folder / "specs" / "new" / "N.yaml").read_text()
    assert "labels:\n  project: P\n" in made
    again = slipway("import", "old/run.sh", "--output-dir", "specs/new")
    assert again.status != 0
    assert "specs/new/N.yaml would be written over; say --force" in again.err
    shutil.copy("iris.onnx", "specs/new/trained-model")
    assert slipway("validate", "specs/new/N.yaml").status == 0


@pytest.mark.usefixtures("folder")
def test_import_as_json() -> None:
    write("churn.yaml", GRADIENT)
    said = json.loads(slipway("import", "churn.yaml", "-o", "json").out)
    assert said["specs"][0]["name"] == "churn"
    assert len(said["gaps"]) == 4
    assert said["mapped"]


@pytest.mark.usefixtures("folder")
def test_import_of_what_is_nothing() -> None:
    write("x.yaml", "a: b\n")
    ran = slipway("import", "x.yaml", "--output-dir", "out")
    assert ran.status == 3
    assert "x.yaml:1:1: this is no deployment of Gradient" in ran.err
    assert not Path("out").exists()
    assert slipway("import", "gone.yaml").status == 2


@pytest.mark.usefixtures("folder")
def test_import_of_two_files_with_one_name() -> None:
    write("a/churn.yaml", GRADIENT)
    write("b/churn.yaml", GRADIENT)
    ran = slipway("import", "a/churn.yaml", "b/churn.yaml")
    assert ran.status != 0
    assert "b/churn.yaml: 'churn' is the name of a deployment in another of these files" in ran.err
