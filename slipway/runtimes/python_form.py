"""The signature of a `slipway.Model` class, from what it declares and how its `predict` is annotated."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from slipway.errors import LoadFailure
from slipway.infer.signature import TensorSpec
from slipway.runtimes.declared import parse_spec
from slipway.runtimes.model import Model

_HOW = (
    'declare it in the class, such as inputs = {"x": "FP32[-1,4]"}, or annotate it, such as '
    'x: Annotated[np.ndarray, "FP32[-1,4]"]'
)


class Form(msgspec.Struct):
    """`as_dict`: the one parameter of `predict` that takes all inputs, or '' where each has its own (or `**`).

    `outputs` is empty where only a trial can tell. `single`: the answer is one array, not a dict or tuple of them.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    as_dict: str


def find_form(kind: type[Model]) -> Form:
    """Read `kind`; raises LoadFailure that says what is missing or contradicts itself."""
    if kind.predict is Model.predict:
        raise LoadFailure(f"{kind.__name__} has no predict method")
    declared = _declared(kind, "inputs")
    parameters = list(inspect.signature(kind.predict).parameters.values())[1:]
    hints = _hints(kind)
    as_dict, specs = "", []
    if len(parameters) == 1 and _takes_all(parameters[0], hints, declared):
        specs = [parse_spec(name, text) for name, text in declared.items()]
        as_dict = "" if parameters[0].kind is parameters[0].VAR_KEYWORD else parameters[0].name
        if not specs:
            raise LoadFailure(f"{kind.__name__}.predict takes all inputs at once, so nothing names them; {_HOW}")
    else:
        specs = _by_parameter(kind, parameters, hints, declared)
    if not specs:
        raise LoadFailure(f"{kind.__name__}.predict takes no inputs; {_HOW}")
    outputs = tuple(parse_spec(name, text) for name, text in _declared(kind, "outputs").items())
    return Form(tuple(specs), outputs or _annotated_outputs(hints.get("return")), as_dict)


def _declared(kind: type[Model], attribute: str) -> Mapping[str, str]:
    declared = getattr(kind, attribute)
    if not isinstance(declared, Mapping) or not all(isinstance(name, str) for name in declared):
        raise LoadFailure(
            f'{kind.__name__}.{attribute} is {declared!r}; it is a dict by name, such as {{"x": "FP32[-1,4]"}}'
        )
    return declared


def _hints(kind: type[Model]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind.predict, include_extras=True)
    except Exception as error:
        raise LoadFailure(f"the annotations of {kind.__name__}.predict cannot be read: {error}") from error


def _takes_all(parameter: inspect.Parameter, hints: Mapping[str, Any], declared: Mapping[str, str]) -> bool:
    if parameter.kind is parameter.VAR_KEYWORD:
        return True
    hint = hints.get(parameter.name)
    origin = typing.get_origin(hint) or hint
    is_mapping = isinstance(origin, type) and issubclass(origin, Mapping)
    return is_mapping and parameter.name not in declared


def _by_parameter(
    kind: type[Model], parameters: list[inspect.Parameter], hints: Mapping[str, Any], declared: Mapping[str, str]
) -> list[TensorSpec]:
    """One input a parameter, in their order; declared ones that a `**` takes come last."""
    where = f"{kind.__name__}.predict"
    specs: list[TensorSpec] = []
    takes_rest = False
    for parameter in parameters:
        if parameter.kind is parameter.VAR_KEYWORD:
            takes_rest = True
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
            raise LoadFailure(f"{where} takes {parameter}; inputs are given by name, so it must take them by name")
        name, optional = parameter.name, parameter.default is not parameter.empty
        text = declared.get(name, _annotation(hints.get(name)))
        if text is None:
            known = f" (inputs declares {', '.join(declared)})" if declared else ""
            raise LoadFailure(f"{where} takes {name!r}, which has no datatype and shape{known}; {_HOW}")
        specs.append(parse_spec(name, text, optional=optional))
    rest = [name for name in declared if name not in {spec.name for spec in specs}]
    if rest and not takes_rest:
        taken = ", ".join(spec.name for spec in specs) or "nothing"
        raise LoadFailure(f"{kind.__name__}.inputs declares {rest[0]!r}, which predict does not take; it takes {taken}")
    return specs + [parse_spec(name, declared[name]) for name in rest]


def _annotation(hint: Any) -> object | None:
    """The text in `Annotated[…, "FP32[-1,4]"]`, or None."""
    if typing.get_origin(hint) is not Annotated:
        return None
    return next((each for each in typing.get_args(hint)[1:] if isinstance(each, str)), None)


def _annotated_outputs(hint: Any) -> tuple[TensorSpec, ...]:
    """`Annotated[…]` is one output; `tuple[Annotated[…], …]` are output_0, output_1, …; anything else tells nothing."""
    text = _annotation(hint)
    if text is not None:
        return (parse_spec("output", text),)
    if typing.get_origin(hint) is tuple:
        texts = [_annotation(each) for each in typing.get_args(hint)]
        if texts and all(each is not None for each in texts):
            return tuple(parse_spec(f"output_{at}", each) for at, each in enumerate(texts))
    return ()
