from __future__ import annotations

import json
import time

import pytest
import yaml

from slipway.errors import InvalidSpec
from slipway.spec import places
from slipway.spec.deployment import (
    AllowRule,
    Auth,
    AutoscaleMetric,
    BatchingRules,
    DeploymentSpec,
    Health,
    JwtRule,
    Replicas,
    RequestLimits,
    SecretRef,
)
from slipway.spec.reading import MOST_PROBLEMS, read_spec, read_specs, spec_from_json
from slipway.spec.writing import spec_to_json, specs_to_yaml

IRIS = """
apiVersion: slipway.dev/v1
name: iris
model: ./iris.onnx            # path, module:Class, http(s)://, s3://, gs://, az:// (fsspec), digest pinned
runtime: auto
replicas: {min: 1, max: 4, device: cpu, cpus: 1, memory: 512Mi}
batching: {max_rows: 64, slo_ms: 20}
env: {A: x, TOKEN: {secret: iris-token}}
health: {startup_s: 60, hang_s: 10}
auth: {public: false, allow: [{key: "*"}, {jwt: {scope: "predict:iris"}}]}
limits: {requests_per_s: 100, burst: 200, rows_per_day: 1000000}
autoscaling: [{metric: cpu, target: 50}]
enabled: true
"""
SPEC = DeploymentSpec(
    name="iris",
    model="./iris.onnx",
    replicas=Replicas(max=4, cpus=1, memory="512Mi"),
    autoscaling=(AutoscaleMetric("cpu", 50),),
    batching=BatchingRules(slo_ms=20),
    env={"A": "x", "TOKEN": SecretRef("iris-token")},
    health=Health(startup_s=60),
    auth=Auth(allow=(AllowRule(key="*"), AllowRule(jwt=JwtRule(scope="predict:iris")))),
    limits=RequestLimits(requests_per_s=100, burst=200, rows_per_day=1_000_000),
)


@pytest.fixture(params=["libyaml", "python"], autouse=True)
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both of PyYAML's parsers: which one there is depends on how it was installed."""
    loader = yaml.CSafeLoader if request.param == "libyaml" else yaml.SafeLoader
    monkeypatch.setattr(places, "_LOADER", loader)
    return str(request.param)


def problems(text: str | bytes) -> list[str]:
    with pytest.raises(InvalidSpec) as caught:
        read_specs(text, file="f.yaml")
    for problem in caught.value.problems:
        assert problem.isprintable()
    return list(caught.value.problems)


def problem(text: str | bytes) -> str:
    (only,) = problems(text)
    return only


def of(field: str) -> str:
    """The one problem of a spec that is right but for this field, without its file."""
    found = problem(f"name: iris\nmodel: ./iris.onnx\n{field}\n")
    assert found.startswith("f.yaml:")
    return found.removeprefix("f.yaml:")


def test_a_spec_is_read() -> None:
    assert read_spec(IRIS) == SPEC


def test_json_is_read_as_yaml_and_as_values() -> None:
    value = yaml.safe_load(IRIS)
    for text in (json.dumps(value), json.dumps(value, indent="\t")):
        assert read_spec(text) == SPEC
    assert spec_from_json(value) == SPEC


def test_json_escapes_beyond_the_first_plane() -> None:
    text = json.dumps({"name": "x", "model": "\\ud83d\\ude00 \U0001f600\t"[:-1], "labels": {}}, indent="\t")
    assert "\\ud83d\\ude00" in text
    assert read_spec(text).model == "\\ud83d\\ude00 \U0001f600"


def test_the_shortest_spec() -> None:
    assert read_spec(b"\xef\xbb\xbfname: x\nmodel: m.onnx\n") == DeploymentSpec(name="x", model="m.onnx")


def test_several_in_one_file() -> None:
    text = "---\n# nothing yet\n---\nname: a\nmodel: m\n---\nname: b\nmodel: m\n...\n"
    assert [spec.name for spec in read_specs(text)] == ["a", "b"]
    with pytest.raises(InvalidSpec, match=r"holds 2 deployments \(a, b\)"):
        read_spec(text)


def test_names_must_differ() -> None:
    found = problem("name: a\nmodel: m\n---\nname: b\nmodel: m\n---\nname: a\nmodel: n\n")
    assert found == "f.yaml:7:1: there is a deployment 'a' already at f.yaml:1:1; names must differ"


def test_aliases_repeat() -> None:
    text = "name: a\nmodel: m\nlabels: &same {x: y}\nfiles: *same\n"
    assert read_spec(text).files == {"x": "y"}


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("replica: 2", "3:1: a deployment has no 'replica'; did you mean 'replicas'?"),
        ("maxRows: 2", "3:1: a deployment has no 'maxRows'; it belongs to batching.max_rows"),
        ("memory: 1Gi", "3:1: a deployment has no 'memory'; it belongs to replicas.memory or queue.memory or cache.m"),
        ("batching: {maxRows: 2}", "3:12: batching has no 'maxRows'; did you mean 'max_rows'?"),
        ("colour: red", "3:1: a deployment has no 'colour'; here are name, model,"),
        ("name: iris", "3:1: name is there twice, first at f.yaml:1:1; keep one"),
        ("replicas: 3", "3:11: replicas is 3; write a mapping of min, max,"),
        ("replicas:", "3:10: replicas is without a value; write a mapping of min,"),
        ("replicas: {min: two}", "3:17: replicas.min is 'two'; write a whole number from 1 to 1024"),
        ("replicas: {min: '2'}", "3:17: replicas.min is the text '2'; write 2 without quotes"),
        ("replicas: {min: 0}", "3:17: replicas.min is 0; write a whole number from 1 to 1024"),
        ("replicas: {min: 1.5}", "3:17: replicas.min is 1.5; write a whole number from 1 to 1024"),
        ("replicas: {min: 010}", "3:17: replicas.min is 010, which is octal to some readers of YAML; write 10"),
        ("replicas: {min: 1_0}", "3:17: replicas.min is 1_0; write a whole number"),
        ("replicas: {min: 99999999999999999999999}", "3:17: replicas.min is 99999999999999999999999; write a whole"),
        ("replicas: {min: 4, max: 2}", "3:25: replicas.max is 2, less than min, which is 4; write at least 4, or 0"),
        ("replicas: {memory: 512}", "3:20: replicas.memory '512' is not a size; did you mean 512Mi?"),
        ("replicas: {memory: 512MB}", "3:20: replicas.memory '512MB' is not a size; did you mean 512M?"),
        ("replicas: {memory: [1]}", "3:20: replicas.memory is a list; write a size such as 512Mi"),
        ("replicas: {device: gpu}", "3:20: replicas.device is 'gpu'; write cpu, or cuda:N"),
        ("queue: {memory: ''}", "3:17: queue.memory '' is not a size"),
        (
            "batching: {slo_ms: 20ms}",
            "3:20: batching.slo_ms is '20ms'; write a number of milliseconds from 0 to 3600000, w",
        ),
        ("batching: {slo_ms: 20, max_delay_ms: 20}", "3:38: batching.max_delay_ms is 20, all of slo_ms"),
        ("batching: {slo_ms: .inf}", "3:20: batching.slo_ms is .inf; write a number"),
        ("health: {hang_s: 1:30}", "3:18: health.hang_s is 1:30; write a number of seconds from 0.1 to 86400"),
        ("health: {hang_s: 1e999}", "3:18: health.hang_s is 1e999; write a number of seconds"),
        ("limits: {requests_per_s: -1}", "3:26: limits.requests_per_s is -1; write a number from 0 to"),
        ("limits: {burst: 3}", "3:17: limits.burst does nothing without requests_per_s; give both"),
        ("enabled: yes", "3:10: enabled is yes; did you mean true, without quotes?"),
        ("enabled: 'off'", "3:10: enabled is the text 'off'; did you mean false, without quotes?"),
        ("enabled: perhaps", "3:10: enabled is 'perhaps'; write true or false"),
        (
            "description: yes",
            "3:14: description is yes, a truth value to some readers of YAML; text is wanted: write it in "
            'quotes, "yes"',
        ),
        ("description: 1:30", "3:14: description is 1:30, a number in base 60 to some readers of YAML; text is wanted"),
        ("description: 2024-01-01", "3:14: description is 2024-01-01, a date to some readers of YAML; text is wanted"),
        ("description: 1e3", "3:14: description is 1e3, a number; text is wanted"),
        ("description: ~", "3:14: description is without a value; write text"),
        ("env: {A: 8080}", "3:10: env.A is a number; text is wanted: write it in quotes"),
        ("env: {1A: x}", "3:7: env has the key '1A'; keys are letters, digits and '_'"),
        ("env: {SLIPWAY_FILES: x}", "3:7: env has the key 'SLIPWAY_FILES'; keys are"),
        ("env: {A: {secret: a/b}}", "3:19: env.A.secret is 'a/b'; write letters, digits"),
        ("env: {A: {secrets: a}, B: {secret: a, x: y}}", None),
        ("env: [A]", "3:6: env is a list; write a mapping, such as {NAME: VALUE}"),
        ("env: {<<: {A: x}}", "3:7: env has a merge key, which YAML 1.2 does not have; write the entries out"),
        ("labels: {'a=b': c}", "3:10: labels has the key 'a=b'; keys are letters, digits"),
        ("files: {../x: y}", "3:9: files has the key '../x'; keys are a relative path"),
        ("files: {a/../../x: y}", "3:9: files has the key 'a/../../x'; keys are a relative path"),
        (
            "files: {a: 'https://u:p@h/x'}",
            "3:8: files has a password in the URL of 'a'; the server reads such from its own",
        ),
        ("digest: abc", "3:9: digest is 'abc'; write sha256: and 64 hexadecimal digits in lower case"),
        ("runtime: ONNX", "3:10: runtime is 'ONNX'; write auto, or the name of a runtime such as onnx"),
        ("autoscaling: {metric: cpu}", "3:14: autoscaling is a mapping; write a list, such as [A, B]"),
        (
            "autoscaling: [{metric: gpu, target: 1}]",
            "3:24: autoscaling[0].metric is 'gpu'; did you mean cpu? It is one of",
        ),
        ("autoscaling: [{metric: cpu}]", "3:15: autoscaling[0] has no target; it has to be given"),
        (
            "autoscaling: [{metric: cpu, target: 101}]",
            "3:37: autoscaling[0].target is 101 percent of cpu; write 100 at",
        ),
        (
            "autoscaling: [{metric: cpu, target: 1}, {metric: cpu, target: 2}]",
            "3:14: autoscaling has cpu more than once",
        ),
        ("auth: {allow: [{}]}", "3:16: auth.allow[0] has none of key, user, certificate and jwt; write exactly one"),
        ("auth: {allow: [{key: a, user: b}]}", "3:16: auth.allow[0] has key and user; write exactly one"),
        ("auth: {allow: [{key: null}]}", "3:22: auth.allow[0].key is without a value"),
        ("auth: {allow: ['*']}", "3:16: auth.allow[0] is the text '*'; write a mapping of key, user, certificate, jwt"),
    ],
)
def test_each_mistake_is_told_with_its_place(field: str, said: str | None) -> None:
    if said is None:
        assert len(problems(f"name: iris\nmodel: m\n{field}\n")) == 3
    else:
        assert of(field).startswith(said)


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("a/b", "'a/b'"),
        ("../etc", "'../etc'"),
        ('"a\\x00b"', r"'a\x00b'"),
        ('"a\\nb"', r"'a\nb'"),
        ('"a\\x1b[31m"', r"'a\x1b[31m'"),
        ('"a\\u202eb"', r"'a\u202eb'"),
        ("_a", "'_a'"),
        ("é", "'é'"),
        ("''", "is empty"),
        ("a" * 129, "has 129 characters"),
    ],
)
def test_names(name: str, seen: str) -> None:
    found = problem(f"name: {name}\nmodel: m\n")
    assert found.startswith("f.yaml:1:7: name ")
    assert seen in found
    assert "letters, digits, '.', '_' and '-', 128 at most" in found


def test_all_mistakes_are_told_at_once() -> None:
    found = problems("name: a/b\nreplica: 1\nenabled: yes\n---\nname: b\nmodel: m\nqueue: {rows: 0}\n")
    assert [one.split(": ")[0] for one in found] == [
        "f.yaml:1:7",
        "f.yaml:2:1",
        "f.yaml:3:10",
        "f.yaml:1:1",
        "f.yaml:7:15",
    ]
    assert "has no model" in found[3]


def test_many_mistakes_are_counted() -> None:
    found = problems("".join(f"x{i}: 1\n" for i in range(1000)))
    assert len(found) == MOST_PROBLEMS + 1
    assert found[-1] == "f.yaml: and 952 more"


def test_values_of_the_environment_are_never_repeated() -> None:
    for text in ("{A: 90210}", "{A: [90210]}", '{A: "90210\\0"}', "{A: yes}"):
        found = problem(f"name: a\nmodel: m\nenv: {text}\n")
        assert "90210" not in found
        assert " yes" not in found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "f.yaml: is empty; write at least"),
        ("# nothing\n---\n---\n", "f.yaml: is empty; write at least"),
        ("[]", "f.yaml:1:1: this is a list; write a mapping of name, model"),
        ("iris", "f.yaml:1:1: this is 'iris'; write a mapping of"),
        ("name: a\n\tmodel: b\n", "f.yaml:2:1: "),
        ("name: a\nqueue:\n\trows: 1\n", "f.yaml:3:1: here is a tab; YAML indents with spaces"),
        ("name: @x", "f.yaml:1:7: this is not YAML"),
        ("name: 'x", "f.yaml:1:9: this is not YAML"),
        ("name: a: b", "f.yaml:1:8: this is not YAML"),
        ("{name: a", "f.yaml:"),
        ("a: *b", "f.yaml:1:4: *b repeats what is nowhere before it as &b"),
        ("a: &b [*b]", "f.yaml:1:8: *b repeats what is nowhere before it as &b"),
        ("a: &b 1\n--- \nb: *b", "f.yaml:3:4: *b repeats"),
        (
            "a: !!python/object:os.system x",
            "f.yaml:1:4: the tag 'tag:yaml.org,2002:python/object:os.system' is not read",
        ),
        ("a: !!binary x", "f.yaml:1:4: the tag"),
        ("? [a]\n: b", "f.yaml:1:3: "),
        (b"name: x\nmodel: \xff", "f.yaml:2:8: byte 0xff is not UTF-8"),
        ("name: x\x00", "f.yaml:1:8: the character '\\x00' cannot be in a spec"),
        ("name: x\n \x1b", "f.yaml:2:2: the character '\\x1b' cannot be in a spec"),
        ("[" * 100_000, "f.yaml:1:33: is nested more than 32 deep"),
        ("{a: " * 100_000, "f.yaml:1:129: is nested more than 32 deep"),
        ("- " * 100_000, "f.yaml:1:65: is nested more than 32 deep"),
        ("apiVersion: v1\nname: x", "f.yaml:1:13: apiVersion is 'v1'; this release reads slipway.dev/v1"),
        ("apiVersion: slipway.dev/v2\nx: y", "f.yaml:1:13: apiVersion is 'slipway.dev/v2'; this release reads"),
        (
            "image: x\nport: 80",
            "f.yaml:1:1: this looks like a deployment spec of Gradient; `slipway import gradient FILE`",
        ),
    ],
)
def test_what_is_no_spec_at_all(text: str | bytes, said: str) -> None:
    assert problem(text).startswith(said)


@pytest.mark.parametrize("text", ["x" * (10 * 2**20), b"\xff" * (10 * 2**20)])
def test_what_is_too_large_is_refused_by_its_size(text: str | bytes) -> None:
    assert problem(text).startswith("f.yaml: has 10485760 bytes; a spec has at most 1048576 (1 MiB)")


def test_alias_bombs_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    assert "more than 100000 values, aliases included" in problem("\n".join(lines))
    deep = ["a0: &a0 [x]", *(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 40))]
    assert "nested more than 32 deep" in problem("\n".join(deep))


def test_large_files_take_no_long_time() -> None:
    text = "".join(f"name: d{i}\nmodel: m\nreplicas: {{min: 2}}\n---\n" for i in range(500))
    started = time.process_time()
    assert len(read_specs(text)) == 500
    assert time.process_time() - started < 10


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "/spec: this is a list; write a mapping of name, model"),
        (None, "/spec: this is without a value; write a mapping of"),
        (
            {"name": "a", "model": "m", "replicas": {"min": "2"}},
            "/spec/replicas/min: replicas.min is the text '2'; write 2",
        ),
        ({"name": "a", "model": "m", "env": {"A": 1}}, "/spec/env/A: env.A is a number; text is wanted"),
        (
            {"name": "a", "model": "m", "enabled": None},
            "/spec/enabled: enabled is without a value; write true or false",
        ),
        ({"name": "a", "model": "m", "labels": {"a/b": 1}}, "/spec/labels/a~1b: labels.a/b is 1, a number; text"),
        (
            {"name": "a", "model": "m", "labels": {"\x00": ""}},
            "/spec/labels/\\x00: labels has the key '\\x00'; keys are",
        ),
        ({"name": "a", "model": "m", "description": "\ud800"}, "/spec/description: description holds half a character"),
        ({"name": "a", "model": "m", "autoscaling": [3]}, "/spec/autoscaling/0: autoscaling[0] is 3; write a mapping"),
        (
            {"name": "a", "model": "m", "queue": {"rows": 10**5000}},
            "/spec/queue/rows: queue.rows is 1e30; write a whole",
        ),
        (
            {"name": "a", "model": "m", "health": {"hang_s": float("nan")}},
            "/spec/health/hang_s: health.hang_s is .nan;",
        ),
        ({"name": "a", "model": "m", "health": {"hang_s": True}}, "/spec/health/hang_s: health.hang_s is true; write"),
        ({"name": "a", "model": "m", "options": {"a": b"x"}}, "/spec/options/a: is a bytes, which JSON does not have"),
        ({"name": "a", "model": "m", "options": {3: "x"}}, "/spec/options: the key '3' is not text"),
    ],
)
def test_json_problems_name_the_path(value: object, said: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        spec_from_json(value, at="/spec")
    (only,) = caught.value.problems
    assert only.startswith(said)


def test_json_is_bounded() -> None:
    deep: object = "x"
    for _ in range(500):
        deep = [deep]
    with pytest.raises(InvalidSpec, match="nested more than 32 deep"):
        spec_from_json({"name": "a", "model": "m", "labels": deep})
    with pytest.raises(InvalidSpec, match="more than 100000 values"):
        spec_from_json({"name": "a", "model": "m", "labels": {f"k{i}": "" for i in range(100_001)}})


def test_whole_numbers_of_json_may_have_a_point() -> None:
    spec = spec_from_json({"name": "a", "model": "m", "replicas": {"min": 2.0}})
    assert spec.replicas.min == 2
    assert isinstance(spec.replicas.min, int)


def test_what_is_written_is_what_was_declared() -> None:
    assert spec_to_json(SPEC) == {
        "apiVersion": "slipway.dev/v1",
        "name": "iris",
        "model": "./iris.onnx",
        "replicas": {"max": 4, "cpus": 1, "memory": "512Mi"},
        "autoscaling": [{"metric": "cpu", "target": 50}],
        "batching": {"slo_ms": 20},
        "env": {"A": "x", "TOKEN": {"secret": "iris-token"}},
        "health": {"startup_s": 60},
        "auth": {"allow": [{"key": "*"}, {"jwt": {"scope": "predict:iris"}}]},
        "limits": {"requests_per_s": 100, "burst": 200, "rows_per_day": 1000000},
    }
    assert list(spec_to_json(SPEC))[:2] == ["apiVersion", "name"]
    assert read_specs(specs_to_yaml([SPEC])) == [SPEC]
