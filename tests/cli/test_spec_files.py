"""`--set` on specs, and which files `-f` means."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.cli.spec_files import read_files, with_changes
from slipway.errors import InvalidSpec, SetupError
from slipway.spec.deployment import AllowRule, SecretRef

BASE = {"name": "iris", "model": "m.onnx", "replicas": {"min": 1, "memory": "1Gi"}}


def test_fields_are_set_by_their_path() -> None:
    spec = with_changes(
        BASE,
        [
            "replicas.min=3",
            "batching.slo_ms=2.5",
            "idempotent=false",
            "description=a: b # c",
            "labels.example.org/team=fruit",
            "env.MODE=on",
            "env.TOKEN.secret=iris-token",
            "env.KEY={secret: other}",
            "options.threads=4",
            'auth.allow=[{key: "*"}]',
        ],
    )
    assert (spec.replicas.min, spec.replicas.memory) == (3, "1Gi")
    assert (spec.batching.slo_ms, spec.idempotent) == (2.5, False)
    assert spec.labels == {"example.org/team": "fruit"}
    assert spec.env == {"MODE": "on", "TOKEN": SecretRef("iris-token"), "KEY": SecretRef("other")}
    assert spec.options == {"threads": "4"}
    assert spec.auth.allow == (AllowRule(key="*"),)
    assert BASE == {"name": "iris", "model": "m.onnx", "replicas": {"min": 1, "memory": "1Gi"}}, "untouched"


@given(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=40))
def test_text_of_the_users_own_is_taken_as_it_stands(value: str) -> None:
    if not value.lstrip().startswith("{"):
        assert with_changes(BASE, [f"env.A={value}"]).env == {"A": value}
    assert with_changes(BASE, [f"options.a={value}"]).options == {"a": value}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("replicas.mni=2", "replicas has no 'mni'; did you mean 'min'?"),
        ("replicas.min=0", "replicas.min"),
        ("replica.min=2", "did you mean 'replicas'?"),
        ("replicas.min=[1", "--set 'replicas.min=[1'"),
        ("replicas.memory=512", "512Mi"),
    ],
)
def test_what_cannot_be_set_is_told_by_its_path(change: str, words: str) -> None:
    with pytest.raises((InvalidSpec, SetupError)) as caught:
        with_changes(BASE, [change])
    assert words in caught.value.message


def test_folders_and_what_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "specs" / "deeper").mkdir(parents=True)
    for name in ("b.yml", "a.yaml", "c.json", "notes.md"):
        spec = '{"name": "c", "model": "m"}' if name == "c.json" else f"name: {name[0]}\nmodel: m\n"
        (tmp_path / "specs" / name).write_text(spec)
    found = read_files(["specs"])
    assert [(one.spec.name, one.folder) for one in found] == [(name, tmp_path / "specs") for name in "abc"]
    with pytest.raises(SetupError, match=r"did you mean specs/a\.yaml"):
        read_files(["specs/a.yml"])
    with pytest.raises(SetupError, match=r"there is no \.yaml, \.yml, \.json file in this folder"):
        read_files(["specs/deeper"])
