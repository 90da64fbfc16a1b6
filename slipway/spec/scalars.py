"""What a person means by a bare word, given what is wanted there. All say in words what would be right, as ValueError.

YAML decides from the looks of a word what it is, and each version of YAML decides otherwise. Here a word that some
version would not take for text is no text, and one that some version would not take for a number is no number.
"""

from __future__ import annotations

import json
import re
from difflib import get_close_matches
from typing import Any

from slipway.spec.fields import Field
from slipway.spec.forms import FORMS
from slipway.spec.places import Entries, Items, Node, Scalar, shown
from slipway.spec.quantities import parse_bytes

_INTEGER = re.compile(r"[-+]?[0-9]{1,40}")
_NUMBER = re.compile(r"[-+]?(\.[0-9]{1,40}|[0-9]{1,40}(\.[0-9]{0,40})?)([eE][-+]?[0-9]{1,4})?")
_NOTHING = re.compile(r"~|null|Null|NULL|")
_TRUTH = re.compile(r"true|True|TRUE|false|False|FALSE")
_OLD_TRUTH = re.compile(r"yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF")
_ODD_NUMBER = re.compile(
    r"[-+]?0[0-7_]+|[-+]?0[oO][0-7_]+|[-+]?0[xX][0-9a-fA-F_]+|[-+]?0[bB][01_]+"
    r"|[-+]?([0-9][0-9_]*)?\.?[0-9_]+([eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*\.([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)"
    r"|\.(nan|NaN|NAN)"
)
_BASE_60 = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?")
_WITH_UNIT = re.compile(r"(?P<number>[0-9.]{1,20})\s*(?P<unit>[A-Za-z%]{1,12})")


def meaning(word: str) -> str:
    """What some YAML takes a bare word for, '' where all take it for text."""
    for pattern, said in (
        (_NOTHING, "nothing"),
        (_TRUTH, "a truth value"),
        (_OLD_TRUTH, "a truth value to some readers of YAML"),
        (_NUMBER, "a number"),
        (_ODD_NUMBER, "a number to some readers of YAML"),
        (_BASE_60, "a number in base 60 to some readers of YAML"),
        (_DATE, "a date to some readers of YAML"),
    ):
        if pattern.fullmatch(word):
            return said
    return ""


def described(node: Node, *, secret: bool = False) -> str:
    """What is there, for an error."""
    if isinstance(node, Items):
        return "a list"
    if isinstance(node, Entries):
        return "a mapping"
    if node.plain and _NOTHING.fullmatch(node.text):
        return "without a value"
    if secret:
        return "other text" if not node.plain or not meaning(node.text) else meaning(node.text)
    return ("" if node.plain else "the text ") + shown(node.text) if not _is_bare(node) else node.text


def _is_bare(node: Scalar) -> bool:
    return node.plain and len(node.text) <= 40 and bool(meaning(node.text))


def as_text(node: Node, rule: Field) -> str:
    if not isinstance(node, Scalar):
        raise ValueError(f"is {described(node)}; write {_right(rule)}")
    form = FORMS[rule.form]
    if node.plain and meaning(node.text):
        if _NOTHING.fullmatch(node.text):
            raise ValueError(f"is without a value; write {_right(rule)}")
        if rule.form.startswith("size"):
            parse_bytes(node.text)
        if rule.choices:
            raise ValueError(f"is {node.text}; write {_right(rule)}")
        word = meaning(node.text) if rule.secret else f"{node.text}, {meaning(node.text)}"
        raise ValueError(f"is {word}; text is wanted: write it in quotes" + _quoted(node, rule))
    if rule.choices:
        return _chosen(node.text, rule)
    if rule.form.startswith("size") and (node.text or rule.form == "size"):
        parse_bytes(node.text)
    if not form.fits(node.text):
        raise ValueError(_unfit(node.text, rule))
    return _encodable(node.text)


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"holds half a character (U+{ord(text[error.start]):04X}); write whole ones") from None
    return text


def _unfit(text: str, rule: Field) -> str:
    right = FORMS[rule.form].right
    if not text:
        return f"is empty; write {right}"
    if len(text) > FORMS[rule.form].most:
        return f"has {len(text)} characters; write {right}"
    return f"is {'not that' if rule.secret else shown(text)}; write {right}"


def _quoted(node: Scalar, rule: Field) -> str:
    return "" if rule.secret else f", {json.dumps(node.text)}"


def _right(rule: Field) -> str:
    return " or ".join((", ".join(rule.choices[:-1]), rule.choices[-1])) if rule.choices else FORMS[rule.form].right


def _chosen(text: str, rule: Field) -> str:
    if text in rule.choices:
        return text
    near = get_close_matches(text[:64], rule.choices, n=1)
    hint = f"did you mean {near[0]}? It" if near else "it"
    raise ValueError(f"is {shown(text)}; {hint} is one of {', '.join(rule.choices)}")


def as_truth(node: Node) -> bool:
    if isinstance(node, Scalar) and node.plain and _TRUTH.fullmatch(node.text):
        return node.text.lower() == "true"
    word = node.text.lower() if isinstance(node, Scalar) else ""
    near = (
        "true"
        if word in ("yes", "on", "y", "1", "true")
        else "false"
        if word in ("no", "off", "n", "0", "false")
        else ""
    )
    hint = f"did you mean {near}, without quotes?" if near else "write true or false"
    raise ValueError(f"is {described(node)}; {hint}")


def as_integer(node: Node, rule: Field, *, name: str) -> int:
    number = _number(node, rule, name=name, whole=True)
    if not number.is_integer():
        raise ValueError(f"is {described(node)}; write {_range(rule, name, whole=True)}")
    return int(number)


def as_number(node: Node, rule: Field, *, name: str) -> float:
    return _number(node, rule, name=name, whole=False)


def _number(node: Node, rule: Field, *, name: str, whole: bool) -> float:
    right = _range(rule, name, whole=whole)
    if not isinstance(node, Scalar):
        raise ValueError(f"is {described(node)}; write {right}")
    if not _NUMBER.fullmatch(node.text):
        unit = _WITH_UNIT.fullmatch(node.text)
        alone = ", without a unit" if unit else ""
        raise ValueError(f"is {described(node)}; write {right}{alone}")
    if not node.plain:
        raise ValueError(f"is {described(node)}; write {node.text} without quotes")
    if _INTEGER.fullmatch(node.text) and node.text.lstrip("+-").startswith("0") and len(node.text.lstrip("+-")) > 1:
        raise ValueError(
            f"is {node.text}, which is octal to some readers of YAML; write {node.text.lstrip('+-0') or '0'}"
        )
    number = float(node.text)
    if not rule.least <= number <= rule.most:
        raise ValueError(f"is {node.text}; write {right}")
    return number


def _range(rule: Field, name: str, *, whole: bool) -> str:
    last = name.rpartition("_")[2]
    unit = {"ms": " of milliseconds", "s": " of seconds", "mb": " of MiB", "kb": " of KiB"}.get(
        last if "_per_" not in name else "", ""
    )
    return f"a {'whole ' if whole else ''}number{unit} from {rule.least:g} to {int(rule.most)}"


def plain_value(node: Node) -> Any:
    """The value as YAML 1.2 has it, for what is passed on and not looked into."""
    if isinstance(node, Items):
        return [plain_value(item) for item in node.items]
    if isinstance(node, Entries):
        return {key.text: plain_value(value) for key, value in node.entries}
    if not node.plain:
        return node.text
    if _NOTHING.fullmatch(node.text):
        return None
    if _TRUTH.fullmatch(node.text):
        return node.text.lower() == "true"
    if _INTEGER.fullmatch(node.text):
        return int(node.text)
    return float(node.text) if _NUMBER.fullmatch(node.text) else node.text
