"""The command line as typer sees it: groups whose verbs are imported when one is called, and help without rich.

The import of rich would be most of the time that `slipway --help` takes, and boxes are of no use to a pipe.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from slipway.cli.verbs import ALIASES, ELSEWHERE, FAMILIES, PANELS, Verb

SETTINGS = {"help_option_names": ["--help", "-h"], "max_content_width": 110}


class Verbs(Mapping[str, Any]):
    """Name to command, each made when it is first asked for."""

    def __init__(self, verbs: Mapping[str, Verb]) -> None:
        self.table = verbs
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            verb = self.table[name]
            self._made[name] = command_of(name, verb.home) if verb.home else Family(name, verb.summary)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.table)

    def __len__(self) -> int:
        return len(self.table)

    def __contains__(self, name: object) -> bool:
        return name in self.table


class PlainGroup(TyperGroup):
    """`panels`: title to verbs, in the order of the help."""

    panels: Mapping[str, Mapping[str, Verb]]

    def show(self, panels: Mapping[str, Mapping[str, Verb]]) -> None:
        self.panels = panels
        every = {name: verb for verbs in panels.values() for name, verb in verbs.items()}
        self.commands: Any = Verbs(every)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        return list(self.commands)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return super().get_command(ctx, cmd_name) or super().get_command(ctx, ALIASES.get(cmd_name, ""))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None and not ctx.resilient_parsing:
            ctx.fail(unknown(name, path=ctx.command_path, known=self.list_commands(ctx)))
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        super(TyperGroup, self).format_help(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        width = max(map(len, self.list_commands(ctx)))
        for title, verbs in self.panels.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), verb.summary) for name, verb in verbs.items()])


class Root(PlainGroup):
    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.show(PANELS)


class Family(PlainGroup):
    """Verbs about one thing, such as `slipway keys create`."""

    def __init__(self, name: str, summary: str) -> None:
        super().__init__(name=name, help=summary, context_settings=SETTINGS, no_args_is_help=True)
        self.show({"Verbs": FAMILIES[name]})


class PlainCommand(TyperCommand):
    """Help that keeps the panels of options, without rich."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                usual = "Arguments" if parameter.param_type_name == "argument" else "Options"
                panels.setdefault(getattr(parameter, "rich_help_panel", None) or usual, []).append(record)
        for title, records in panels.items():
            with formatter.section(title):
                formatter.write_dl(records)


def command_of(name: str, home: str) -> Any:
    """The command of a function, `module:function` below `slipway.cli`."""
    module, _, function = home.partition(":")
    act = getattr(import_module(f"slipway.cli.{module}"), function)
    one = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings=SETTINGS)
    one.command(name=name, cls=PlainCommand)(act)
    return get_command(one)


def unknown(name: str, *, path: str, known: list[str]) -> str:
    """What to say of a verb that is none."""
    near = [ELSEWHERE[name]] if ELSEWHERE.get(name, "").split(" ")[0] in known else []
    near = near or get_close_matches(name, known, n=2, cutoff=0.6)
    told = f"; did you mean {' or '.join(near)}?" if near else f"; `{path} --help` lists what there is."
    return f"there is no verb {name!r}{told}"
