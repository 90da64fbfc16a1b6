"""Every field that Gradient's three generations have is named here once, and has to come out as mapped or as a gap."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.errors import InvalidSpec
from slipway.spec.deployment import AllowRule, Auth, AutoscaleMetric, DeploymentSpec, Health, Replicas, SecretRef
from slipway.spec.gradient import Conversion, convert
from slipway.spec.gradient.options import OPTIONS
from slipway.spec.gradient.spec_file import FIELDS
from slipway.spec.reading import read_specs
from slipway.spec.writing import specs_to_yaml

GEN_3 = """
apiVersion: v1
name: my-app
image: paperspace/app-fixture:0.1.3
enabled: true
containerRegistry: my-reg
region: east
basicAuthKey: hunter2
command: [/bin/sh, -c, ls]
env: [{name: A, value: x}, {name: T, value: "secret:tok"}, {name: PORT, value: 80}]
resources:
  ports: [8000]
  machineType: A100-80G
  replicas: 2
  autoscaling:
    enabled: true
    maxReplicas: 5
    metrics:
      - {metric: requestDuration, summary: average, value: 2}
      - {metric: cpu, summary: average, value: 50}
      - {metric: memory, summary: average, value: 22}
integrations:
  - {type: git-lfs, name: falcon, path: /models/, url: https://huggingface.co/tiiuae/falcon}
  - {type: s3, name: b, path: /p, url: s3://b/m.onnx, region: u, endpoint: e, accessKeyId: K, secretAccessKey: hunter2}
  - {type: do-spaces, name: words, url: s3://b/words.txt}
  - {type: volume, name: v}
  - {type: model, id: m1, path: /opt/models}
healthChecks:
  liveness: {periodSeconds: 5, failureThreshold: 5, exec: {command: [x]}}
  readiness: {path: /, host: h, port: 8000, headers: [], initialDelaySeconds: 5, periodSeconds: 5, timeoutSeconds: 5}
  startup: {path: /, initialDelaySeconds: 5, periodSeconds: 10, failureThreshold: 6}
"""

GEN_2 = """
image: tensorflow/serving
port: 8501
models: [{id: mos123, path: /opt/models/trained-model/}]
env: [{name: MODEL_BASE_PATH, value: /opt/models/trained-model/}, {name: MODEL_NAME, value: trained-model}]
resources: {replicas: 1, instanceType: C4}
"""

V0ALPHA0 = """
apiVersion: v0alpha0
name: old
image: x
port: 80
instanceType: K80
models: [{id: m, path: /m}]
repositories: {dataset: ds1, mountPath: /r, repositories: [{url: "https://github.com/a/b.git", name: b, ref: main}]}
resources: {replicas: 3}
"""

GEN_1 = """
# what we ran
gradient deployments create --deploymentType ONNX --modelId mos123 --name "my model" \\
  --machineType K80 --imageUrl tensorflow/serving:latest-gpu --instanceCount 2 --projectId p1 \\
  --command run --containerModelPath /m --containerUrlPath /v1 --method predict --dockerArgs '{"a": 1}' \\
  --env '{"A": "x", "T": "secret:tok"}' --apiType REST --ports 80 --clusterId c --imageUsername u \\
  --imagePassword hunter2 --imageServer s --authUsername ada --authPassword hunter2 --tag red --tags green,blue \\
  --workspace . --workspaceRef main --workspaceUsername w --workspacePassword hunter2 \\
  --minInstanceCount 1 --maxInstanceCount 3 --scaleCooldownPeriod 120 \\
  --metric my_metric/targetAverage:21.37 --resource cpu/target:60
"""


def only(text: str | bytes, file: str = "f.yaml") -> tuple[DeploymentSpec, Conversion]:
    found = convert(text, file=file)
    (spec,) = found.specs
    assert read_specs(specs_to_yaml(found.specs)) == found.specs
    for line in (*found.mapped, *found.gaps):
        assert line.startswith(file)
        assert "hunter2" not in line
    return spec, found


def gap(found: Conversion, path: str) -> str:
    (line,) = [line for line in found.gaps if f": {path} is left out" in line]
    return line


def test_the_third_generation() -> None:
    spec, found = only(GEN_3)
    assert spec == DeploymentSpec(
        name="my-app",
        model="s3://b/m.onnx",
        labels={"region": "east"},
        files={"words": "s3://b/words.txt"},
        replicas=Replicas(min=2, max=5, device="cuda:0"),
        autoscaling=(
            AutoscaleMetric("request_duration", 2),
            AutoscaleMetric("cpu", 50),
            AutoscaleMetric("memory", 22),
        ),
        env={"A": "x", "T": SecretRef("tok"), "PORT": "80"},
        health=Health(startup_s=65, hang_s=25),
        auth=Auth(allow=(AllowRule(user="*"),)),
    )
    assert "f.yaml:4:8: image is left out: images and commands wait until processes can be deployed" in gap(
        found, "image"
    )
    assert "AWS_SECRET_ACCESS_KEY" in gap(found, "integrations[1].secretAccessKey")
    assert "slipway secrets set tok" in "".join(found.mapped)


@pytest.mark.parametrize(
    "field",
    [
        *("apiVersion", "name", "image", "enabled", "containerRegistry", "region", "basicAuthKey", "command"),
        *("env[0]", "env[1]", "env[2]", "resources.ports", "resources.machineType", "resources.replicas"),
        *("resources.autoscaling.enabled", "resources.autoscaling.maxReplicas", "resources.autoscaling.metrics[2]"),
        *("integrations[0].name", "integrations[0].path", "integrations[0].url", "integrations[1].name"),
        *("integrations[1].path", "integrations[1].url", "integrations[1].region", "integrations[1].endpoint"),
        *("integrations[1].accessKeyId", "integrations[1].secretAccessKey", "integrations[2].url", "integrations[3]"),
        *("integrations[4]", "healthChecks.liveness.{periodSeconds, failureThreshold}", "healthChecks.liveness.{exec}"),
        "healthChecks.readiness.{path, host, port, headers, initialDelaySeconds, periodSeconds, timeoutSeconds}",
        *("healthChecks.startup.{periodSeconds, failureThreshold, initialDelaySeconds}", "healthChecks.startup.{path}"),
    ],
)
def test_nothing_of_the_third_generation_is_dropped_in_silence(field: str) -> None:
    found = convert(GEN_3, file="f")
    said = [line for line in (*found.mapped, *found.gaps) if re.search(rf": {re.escape(field)}( |:)", line)]
    assert len(said) == 1


def test_the_second_generation() -> None:
    spec, found = only(GEN_2, "trained.yaml")
    assert spec == DeploymentSpec(
        name="trained",
        model="./trained-model",
        env={"MODEL_BASE_PATH": "/opt/models/trained-model/", "MODEL_NAME": "trained-model"},
        auth=Auth(public=True),
    )
    assert "put the files of model mos123 at ./trained-model" in gap(found, "the content of models[0].id")
    assert "nothing is mounted" in gap(found, "models[0].path")
    assert "/v2/models/NAME" in gap(found, "port")
    mapped = "\n".join(found.mapped)
    assert "resources.instanceType → replicas.device = cpu" in mapped
    assert "resources.replicas → replicas.min = 1" in mapped
    assert "the endpoint's access → auth.public = true" in mapped


def test_v0alpha0() -> None:
    spec, found = only(V0ALPHA0)
    assert spec.replicas == Replicas(min=3, device="cuda:0")
    assert spec.model == "./m"
    assert "clone it" in gap(found, "repositories.repositories[0].url")
    for path in ("repositories.dataset", "repositories.mountPath", "repositories.repositories[0].ref", "image", "port"):
        assert gap(found, path)


def test_the_first_generation() -> None:
    spec, found = only(GEN_1, "deploy.sh")
    assert spec == DeploymentSpec(
        name="my-model",
        model="./my-model",
        runtime="onnx",
        labels={"project": "p1", "red": "", "green": "", "blue": ""},
        replicas=Replicas(min=1, max=3, device="cuda:0"),
        autoscaling=(AutoscaleMetric("cpu", 60),),
        env={"A": "x", "T": SecretRef("tok")},
        auth=Auth(allow=(AllowRule(user="ada"),)),
    )
    assert "deploy.sh:3: --metric is left out: the metric 'my_metric' is not known here" in gap(found, "--metric")
    assert "slipway users add" in gap(found, "--authPassword")


@pytest.mark.parametrize("option", OPTIONS)
def test_nothing_of_the_first_generation_is_dropped_in_silence(option: str) -> None:
    text = GEN_1.replace("--authUsername ada", "--authUsername ada --auth")
    found = convert(text, file="f")
    lines = (*found.mapped, *found.gaps)
    if option == "auth":  # authUsername, given as well, says more
        found = convert("gradient deployments create --name a --auth", file="f")
        lines = (*found.mapped, *found.gaps)
    assert [line for line in lines if re.search(rf": (the content of )?--{option}\b", line)]


def test_the_first_generation_as_options() -> None:
    options = {"name": "a", "modelId": "m", "machineType": "C2", "instance-count": 2, "env": {"A": "x"}, "auth": True}
    for text in (
        json.dumps(options),
        "name: a\nmodelId: m\nmachineType: C2\ninstanceCount: 2\nenv: {A: x}\nauth: true\n",
    ):
        spec, _ = only(text)
        assert spec == DeploymentSpec(
            name="a",
            model="./a",
            replicas=Replicas(min=2),
            env={"A": "x"},
            auth=Auth(allow=(AllowRule(user="*"),)),
        )


def test_all_files_of_the_third_generation() -> None:
    wanted, _ = only("apiVersion: v1\nname: a\nimage: i\nresources: {replicas: 2, machineType: C4}\n")
    commented = """// what we run
    {
      "apiVersion": "v1", /* the
      latest */ "name": "a",
      "image": "i", // "quoted" // twice
      "resources": {"replicas": 2, "machineType": "C4",},
    }"""
    toml = 'apiVersion = "v1"\nname = "a"\nimage = "i"\n[resources]\nreplicas = 2\nmachineType = "C4"\n'
    for file, text in (("p.jsonc", commented), ("p.json", commented), ("p.toml", toml), ("standard input", toml)):
        assert only(text, file)[0] == wanted
    url = '{"name": "a", "image": "http://x/*y*/z", "integrations": [{"type": "s3", "url": "s3://b//c"}]}'
    assert only(url, "p.jsonc")[0].model == "s3://b//c"


def test_places_survive_comments() -> None:
    found = convert('// a\n{"name": "a", /* b\n */ "image": "i"}', file="p.jsonc")
    assert gap(found, "image").startswith("p.jsonc:3:14: ")


def test_a_create_that_names_its_spec() -> None:
    line = "gradient deployments create --name N --projectId P --spec spec.yaml --clusterId c\n"
    asked = []

    def beside(path: str) -> bytes:
        asked.append(path)
        return GEN_2.encode()

    found = convert(line, file="run.sh", beside=beside)
    assert asked == ["spec.yaml"]
    (spec,) = found.specs
    assert (spec.name, spec.labels, spec.model) == ("N", {"project": "P"}, "./trained-model")
    assert any("--clusterId is left out" in line for line in found.gaps)
    with pytest.raises(InvalidSpec, match=r"the deployment is in spec\.yaml; convert that file"):
        convert(line)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gradient deployments list", "f:1: `gradient deployments list` declares nothing by itself"),
        (
            "pspace up",
            "f:1: `pspace up` declares nothing by itself; convert its configuration, such as paperspace.yaml",
        ),
        ("gradient deployments create --name 'a", "f:1: this command line cannot be read: No closing quotation"),
        ("gradient deployments create a b --name", "f:1: `gradient deployments create a b` declares nothing"),
        ("gradient deployments create --name a b", "f:1: 'b' belongs to no option; are its quotes right?"),
        ("a: b", "f:1:1: this is no deployment of Gradient: neither a spec"),
        ("[1, 2]", "f:1:1: this is no deployment of Gradient"),
        ("", "f: holds no deployment of Gradient"),
        ("apiVersion: slipway.dev/v1\nname: a\nmodel: b", "f:1:1: this is a spec of Slipway already"),
        ("a: [", "f:"),
        ("x" * 2**21, "f: has 2097152 bytes"),
    ],
)
def test_what_holds_no_deployment(text: str, said: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        convert(text, file="f")
    assert caught.value.problems[0].startswith(said)


@pytest.mark.parametrize(
    ("field", "path", "why"),
    [
        ("resources: {replicas: 99999}", "resources.replicas", "replicas.min is 99999; write a whole number from 1"),
        ("resources: {replicas: many}", "resources.replicas", "'many' is no number"),
        (
            "resources: {replicas: 4, autoscaling: {maxReplicas: 2}}",
            "resources.autoscaling.maxReplicas",
            "less than min",
        ),
        ("resources: {gpu: 1}", "resources.gpu", "this is no resource that is known here"),
        ("resources: {autoscaling: {metrics: [{metric: gpu, value: 1}]}}", "resources.autoscaling.metrics[0]", "'gpu'"),
        (
            "resources: {autoscaling: {metrics: [{metric: cpu, value: 200}]}}",
            "resources.autoscaling.metrics[0]",
            "percent",
        ),
        (
            "resources: {autoscaling: {enabled: false, maxReplicas: 3}}",
            "resources.autoscaling.maxReplicas",
            "switched off",
        ),
        ("env: [{name: 1X, value: a}]", "env[0]", "env has the key '1X'"),
        ("env: [{name: X}]", "env[0]", "it has no name, or no value"),
        ("env: [{name: X, value: [a]}]", "env[0]", "its value is no text"),
        ("enabled: maybe", "enabled", "enabled is the text 'maybe'; write true or false"),
        ("healthChecks: {alive: {}}", "healthChecks.alive", "checks are liveness, readiness and startup"),
        ("healthChecks: {startup: {periodSeconds: 5}}", "healthChecks.startup.{periodSeconds}", "Slipway asks its"),
        ("integrations: [{type: ftp}]", "integrations[0]", "integrations of the type 'ftp' are not known here"),
        ("integrations: [{type: s3, name: x}]", "integrations[0]", "it has no url to fetch from"),
        ("colour: red", "colour", "this is no field of Gradient's specs that is known here"),
        ("apiVersion: v9", "apiVersion", "'v9' is none of v0alpha0, v0alpha1, v1"),
    ],
)
def test_what_has_no_home_says_why(field: str, path: str, why: str) -> None:
    _, found = only(f"name: a\nimage: i\n{field}\n")
    assert why in gap(found, path)


def test_zero_replicas_is_a_stopped_deployment() -> None:
    spec, _ = only("name: a\nimage: i\nresources: {replicas: 0}\n")
    assert (spec.enabled, spec.replicas.min) == (False, 1)


def test_several_deployments_and_names_that_clash() -> None:
    found = convert("name: a b\nimage: i\n---\nname: a-b\nimage: i\n---\nimage: i\n", file="x/paperspace.yaml")
    assert [spec.name for spec in found.specs] == ["a-b", "a-b-2", "x"]
    assert any("'a-b' is called a-b-2 here" in line for line in found.mapped)


def test_without_any_model_there_is_a_place_to_put_one() -> None:
    spec, found = only("name: a\nimage: i\n")
    assert spec.model == "./a"
    assert any("no model is named that can be fetched: put the model" in line for line in found.gaps)


def test_all_tables_are_covered_here() -> None:
    """A field that somebody adds to a table needs a line in the samples."""
    samples = GEN_3 + GEN_2 + V0ALPHA0
    assert [field for field in FIELDS if not re.search(rf"^{field}:", samples, re.M)] == []
    assert [option for option in OPTIONS if option != "auth" and f"--{option} " not in GEN_1] == []


PARTS = (
    "type url id path value metric metrics replicas autoscaling maxReplicas startup liveness periodSeconds repositories"
)
KEYS = st.sampled_from([*FIELDS, *OPTIONS, *PARTS.split()]) | st.text(max_size=4)
TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**9) | st.text(max_size=6) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=15,
)


@settings(max_examples=300, deadline=None)
@given(TREES)
def test_any_tree_is_converted_or_refused(tree: object) -> None:
    try:
        found = convert(json.dumps(tree), file="f.json")
    except InvalidSpec:
        return
    assert read_specs(specs_to_yaml(found.specs)) == found.specs


@settings(max_examples=200, deadline=None)
@given(
    st.text(max_size=60).map("gradient deployments create --name a ".__add__)
    | st.text(max_size=40)
    | st.binary(max_size=40)
)
def test_any_text_is_converted_or_refused(text: str | bytes) -> None:
    try:
        convert(text, file="f")
    except InvalidSpec as error:
        assert error.problems
