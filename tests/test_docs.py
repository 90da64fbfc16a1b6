"""The documents say what is there: every option, metric, error and spec field, links that lead somewhere, and blocks
that run.

A block marked `bash` or `python` runs, in order, in one folder for each document, against a server that serves the
example on the ports of the document (which are replaced by free ones). What cannot run says why in the line before:
`<!-- not run: reason -->`. A `text` block right behind a block that ran is what it has to print; `...` stands for
anything.
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import typer
from serving import ROOT, Served

from slipway.errors import every_error
from slipway.monitor import metrics
from slipway.spec import serve

CHAPTERS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *CHAPTERS]
RUN_S = 60

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
NOT_RUN = re.compile(r"<!-- not run: (.+?) -->\s*\Z")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


class Block(NamedTuple):
    """`expected` '': anything. `not_run`: why it does not run, '' if it does."""

    line: int
    language: str
    code: str
    expected: str
    not_run: str


def blocks_of(text: str) -> list[Block]:
    found = []
    fences = list(FENCE.finditer(text))
    for place, fence in enumerate(fences):
        if fence[1] not in ("bash", "python"):
            continue
        expected = ""
        if place + 1 < len(fences):
            behind = fences[place + 1]
            if behind[1] == "text" and not text[fence.end() : behind.start()].strip():
                expected = behind[2]
        mark = NOT_RUN.search(text[: fence.start()])
        line = text[: fence.start()].count("\n") + 1
        found.append(Block(line, fence[1], fence[2], expected, mark[1].strip() if mark else ""))
    return found


def prose(pages: list[Path]) -> str:
    return "\n".join(page.read_text() for page in pages)


def options() -> Iterator[tuple[str, str]]:
    """(command, option) of the whole command line."""
    from slipway.cli.main import app

    def walk(name: str, command: Any) -> Iterator[tuple[str, str]]:
        for parameter in command.params:
            for option in (*parameter.opts, *parameter.secondary_opts):
                if option.startswith("--"):
                    yield name, option
        for child, inner in getattr(command, "commands", {}).items():
            yield from walk(f"{name} {child}", inner)

    yield from walk("slipway", typer.main.get_command(app))


def spec_fields() -> list[str]:
    kinds = [kind for kind in vars(serve).values() if isinstance(kind, type) and issubclass(kind, msgspec.Struct)]
    return [f"{kind.__name__}.{field}" for kind in kinds for field in kind.__struct_fields__]


def test_every_option_is_documented() -> None:
    found = list(options())
    assert len(found) > 20
    text = prose(CHAPTERS)
    missing = [f"{command} {option}" for command, option in found if f"`{option}" not in text]
    assert not missing


def test_every_documented_option_exists() -> None:
    known = {option for _, option in options()}
    table = (ROOT / "docs" / "08-options.md").read_text()
    named = set(re.findall(r"^\| `(--[a-z-]+)", table, re.M))
    assert named - known == set()


def test_every_metric_is_documented() -> None:
    names = {value.name for value in vars(metrics).values() if isinstance(value, metrics.Metric)}
    assert len(names) > 10
    assert {name for name in names if f"`{name}`" not in prose(CHAPTERS)} == set()
    chapter = (ROOT / "docs" / "09-metrics-and-logs.md").read_text()
    assert set(re.findall(r"`(slipway_[a-z_]+)`", chapter)) - names == set()


def test_every_error_is_documented_with_its_codes() -> None:
    from slipway.transports.codes import GRPC_CODE, HTTP_STATUS

    rows = set(re.findall(r"^\| `(\w+)` \| `(\w+)` \| (\d+) \| (\d+) ", prose(CHAPTERS), re.M))
    wanted = {(kind.code, kind.__name__, str(HTTP_STATUS[kind]), str(GRPC_CODE[kind])) for kind in every_error()}
    assert rows == wanted


def test_every_spec_field_is_documented() -> None:
    text = prose(CHAPTERS)
    assert [field for field in spec_fields() if f"`{field}`" not in text] == []


def test_chapters_are_numbered_and_listed() -> None:
    numbers = [int(chapter.name[:2]) for chapter in CHAPTERS]
    assert numbers == list(range(1, len(CHAPTERS) + 1))
    contents = CHAPTERS[0].read_text()
    assert [chapter.name for chapter in CHAPTERS[1:] if f"({chapter.name})" not in contents] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in LINK.findall(page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert not broken


def anchors(page: Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_run(page: Path, iris: Served, tmp_path: Path) -> None:
    for name in ("examples", "scripts", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    for block in blocks_of(page.read_text()):
        if not block.not_run:
            printed = run(block, page, iris, tmp_path)
            assert not block.expected or prints(block.expected, printed), (
                f"{page.name}:{block.line} should print\n{block.expected}\nbut prints\n{printed}"
            )


def run(block: Block, page: Path, iris: Served, folder: Path) -> str:
    code = block.code
    for written, real in (("8080", iris.http), ("8081", iris.grpc), ("8082", iris.admin)):
        code = code.replace(f"127.0.0.1:{written}", real.removeprefix("http://"))
    command = ["bash", "-euo", "pipefail", "-c", code] if block.language == "bash" else [sys.executable, "-c", code]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=RUN_S,
    )
    assert ran.returncode == 0, f"{page.name}:{block.line} fails:\n{code}\n{ran.stdout}{ran.stderr}"
    return ran.stdout


def prints(expected: str, printed: str) -> bool:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return doctest.OutputChecker().check_output(expected, printed, flags)


# --- the rules can fail -------------------------------------------------------------------------------------------

PAGE = """
```bash
true
```
<!-- not run: it never ends -->
```bash
sleep infinity
```

```python
print("a", 1)
```
```text
a ...
```
```json
{}
```
"""


def test_blocks_are_found() -> None:
    assert blocks_of(PAGE) == [
        Block(2, "bash", "true\n", "", ""),
        Block(6, "bash", "sleep infinity\n", "", "it never ends"),
        Block(10, "python", 'print("a", 1)\n', "a ...\n", ""),
    ]


def test_a_reason_is_required() -> None:
    assert blocks_of("<!-- not run: -->\n```bash\ntrue\n```\n")[0].not_run == ""


def test_a_block_that_fails_is_noticed(iris: Served, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"README\.md:3 fails"):
        run(Block(3, "bash", "false | true\n", "", ""), ROOT / "README.md", iris, tmp_path)
    assert not prints("a b\n", "a c\n")
    assert prints("a ...\n", "a   b\n")
