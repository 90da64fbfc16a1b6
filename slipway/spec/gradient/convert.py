"""From a file of Gradient's to specs: which generation it is, and one draft for each deployment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePath

from slipway.errors import InvalidSpec
from slipway.spec.deployment import API_VERSION
from slipway.spec.gradient.conversion import Conversion, Draft, entries_of, fitting_name, put_name, text_of
from slipway.spec.gradient.options import draft_of_options, is_options
from slipway.spec.gradient.spec_file import VERSIONS, draft_of_spec, is_spec_file
from slipway.spec.gradient.texts import Command, commands_in, trees_in
from slipway.spec.places import Entries, Node, decoded, shown

Beside = Callable[[str], bytes]


def convert(text: str | bytes, *, file: str = "gradient", beside: Beside | None = None) -> Conversion:
    """The deployments of a spec file (YAML, JSON, JSON with comments, TOML) or of `gradient deployments create` lines.

    `beside` reads a file that a command line names with --spec. Raises InvalidSpec, with every place, where no
    deployment is found at all; what cannot be carried over of one that is found is a gap.
    """
    written = decoded(text, file=file)
    name = _name_of(file)
    commands = commands_in(written, file=file)
    if commands:
        drafts, refused = _of_commands(commands, name, beside)
    else:
        drafts, refused = _of_trees(trees_in(written, file=file), name)
    if not drafts:
        problems = refused or [f"{file}: holds no deployment of Gradient"]
        raise InvalidSpec(problems[0], problems=tuple(problems))
    taken: set[str] = set()
    specs = []
    for draft in drafts:
        _distinguish(draft, taken)
        specs.append(draft.finish())
    return Conversion(
        specs=specs,
        mapped=[line for draft in drafts for line in draft.mapped],
        gaps=[*(line for draft in drafts for line in draft.gaps), *refused],
    )


def _of_trees(trees: list[Node], name: str) -> tuple[list[Draft], list[str]]:
    drafts, refused = [], []
    for tree in trees:
        versions = [text_of(value) for key, value in entries_of(tree) if key == "apiVersion"]
        if API_VERSION in versions:
            refused.append(f"{tree.place}: this is a spec of Slipway already")
        elif is_spec_file(tree) or any(version in VERSIONS for version in versions):
            drafts.append(draft_of_spec(tree, name=name))
        elif is_options(tree):
            drafts.append(draft_of_options(tree, name=name))
        else:
            refused.append(
                f"{tree.place}: this is no deployment of Gradient: neither a spec (image, resources, models, …) nor "
                "options of `gradient deployments create` (modelId, machineType, …)"
            )
    return drafts, refused


def _of_commands(commands: list[Command], name: str, beside: Beside | None) -> tuple[list[Draft], list[str]]:
    drafts: list[Draft] = []
    refused: list[str] = []
    for command in commands:
        place = command.options.place
        options = dict(entries_of(command.options))
        if command.tool != "gradient" or command.verbs != ("deployments", "create"):
            said = " ".join((command.tool, *command.verbs))
            what = "its configuration, such as paperspace.yaml," if command.tool != "gradient" else "the spec"
            refused.append(
                f"{place}: `{said}` declares nothing by itself; convert {what} or a `gradient deployments create`"
            )
        elif "spec" in options:
            _of_named_spec(command.options, name, beside, drafts, refused)
        else:
            drafts.append(draft_of_options(command.options, name=name, dashes="--"))
    return drafts, refused


def _of_named_spec(options: Entries, name: str, beside: Beside | None, drafts: list[Draft], refused: list[str]) -> None:
    """`create --name N --projectId P --spec FILE [--clusterId C]` of the second generation."""
    given = dict(entries_of(options))
    path = text_of(given.pop("spec"))
    if beside is None:
        refused.append(f"{options.place}: the deployment is in {path}; convert that file")
        return
    try:
        found, problems = _of_trees(trees_in(decoded(beside(path), file=path), file=path), name)
    except InvalidSpec as error:
        refused += error.problems
        return
    refused += problems
    for draft in found:
        for key, node in given.items():
            if key == "name":
                put_name(draft, node, "--name")
            elif key == "projectId":
                draft.put(node, "--projectId", "labels.project", text_of(node), note="for people")
            elif key == "clusterId":
                draft.gap(node, "--clusterId", "a deployment runs on the server that it is deployed to")
            else:
                draft.gap(
                    node, f"--{key}", "this is no option of `gradient deployments create --spec` that is known here"
                )
        drafts.append(draft)


def _distinguish(draft: Draft, taken: set[str]) -> None:
    """Names were unique in a project only."""
    name = draft.fields["name"]
    number = 2
    while draft.fields["name"] in taken:
        draft.fields["name"] = f"{name[:120]}-{number}"
        number += 1
    if draft.fields["name"] != name:
        draft.mapped.append(
            f"{draft.root.place}: a second deployment {shown(name)} is called {draft.fields['name']} here"
        )
    taken.add(draft.fields["name"])


def _name_of(file: str) -> str:
    """What a deployment without a name is called: after its file, or its folder where the file is called as all are."""
    path = PurePath(file)
    usual = path.stem in ("paperspace", "app", "spec", "deployment", "deployment-spec")
    return fitting_name(path.parent.name if usual and path.parent.name else path.stem)
