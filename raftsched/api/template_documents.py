"""The template document of a request, checked: parameters, and a task with places for them."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec

from raftsched.api.context import decode, pointer_of
from raftsched.api.documents import TaskRequest, Use, to_new_task
from raftsched.api.places import NAME, Filling, Place, TooMuch, places
from raftsched.api.problems import Problem
from raftsched.api.secrets import restored
from raftsched.api.views import HIDDEN
from raftsched.core.template import DOCUMENT_BYTES_MAX, Template

PARAMETERS_MAX = 100
#: Characters that are filled into one task.
FILLED_MAX = 1024 * 1024
#: Documents that are kept decoded.
DECODED_MAX = 32

Kind = Literal["string", "integer", "number", "boolean", "list", "object"]
Text = Annotated[str, msgspec.Meta(max_length=2_000)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Za-z][0-9A-Za-z._-]{0,63}$(?!\n)")]

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "list": (list,),
    "object": (dict,),
}
#: What a template is checked with where a parameter says neither default, enum nor example.
_SAMPLES: dict[str, Any] = {
    "string": "x",
    "integer": 1,
    "number": 1,
    "boolean": True,
    "list": [],
    "object": {},
}


class Parameter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A value that whoever uses the template gives."""

    type: Kind = "string"
    #: Not said: it must be given.  Null: the fields that it stands for are left out.
    default: Any = msgspec.UNSET
    #: Not said: it is, unless there is a default.
    required: bool | None = None
    #: The only values that it takes.
    enum: Annotated[list[Any], msgspec.Meta(min_length=1, max_length=1_000)] | None = None
    #: What the template is checked with, if there is neither a default nor an enum.
    example: Any = msgspec.UNSET
    description: Text = ""


class TemplateRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The template document."""

    #: As the address has it.
    name: str = ""
    description: Text = ""
    parameters: Annotated[dict[str, Parameter], msgspec.Meta(max_length=PARAMETERS_MAX)] = {}
    #: A task document with places such as ``${day}`` in its texts.
    task: dict[str, Any]


_requests = msgspec.json.Decoder(TemplateRequest)
_tasks = msgspec.json.Decoder(TaskRequest)
_plain = msgspec.json.Decoder(dict[str, Any])
_names = msgspec.json.Decoder(Name)
_json = msgspec.json.Encoder()


# What is asked to be kept -------------------------------------------------------------------------


def checked_template(name: str, body: bytes, known: Template | None) -> tuple[bytes, str]:
    """The document as it is kept, and the namespace of its task.

    Raises Problem for the first thing that is wrong.
    """
    _check_name(name)
    parsed: TemplateRequest = decode(_requests, body)
    if parsed.name not in ("", name):
        raise Problem("invalid", f"the address says {name!r}; leave it out", pointer="/name")
    for parameter, asked in parsed.parameters.items():
        _check_parameter(parameter, asked)
    document = _plain.decode(body)
    document.pop("name", None)
    try:
        if known is not None:
            document["task"] = restored(document["task"], document_of(known)["task"])
        _check_places(document["task"], parsed.parameters)
        namespace = _check_task(document["task"], parsed.parameters)
        data = _json.encode(document)
    except RecursionError:
        raise Problem("invalid", "it is nested too deep", pointer="/task") from None
    if len(data) > DOCUMENT_BYTES_MAX:
        raise Problem("too-large", f"a template may have {DOCUMENT_BYTES_MAX} bytes")
    return data, namespace


def _check_name(name: str) -> None:
    try:
        _names.decode(_json.encode(name))
    except (msgspec.ValidationError, UnicodeEncodeError):
        text = (
            f"{name[:100]!a} cannot be a template's name: 1 to 64 letters, digits, points, "
            "hyphens and underscores, the first a letter or a digit"
        )
        raise Problem("invalid", text, pointer="/name") from None


def _check_parameter(name: str, asked: Parameter) -> None:
    pointer = f"/parameters{pointer_of(name)}"
    if not NAME.fullmatch(name):
        text = "a parameter is called with letters, digits and underscores, at most 64"
        raise Problem("invalid", text, pointer=pointer)
    has_default = asked.default is not msgspec.UNSET
    if asked.required is True and has_default:
        text = "it is required, and so it has no default; an example is another thing"
        raise Problem("invalid", text, pointer=f"{pointer}/required")
    if asked.required is False and not has_default:
        text = "it is not required, and so it needs a default; null leaves its field out"
        raise Problem("invalid", text, pointer=f"{pointer}/required")
    for number, value in enumerate(asked.enum or ()):
        _check_type(asked, value, f"{pointer}/enum/{number}")
    if has_default and asked.default is not None:
        check_value(asked, asked.default, f"{pointer}/default")
    if asked.example is not msgspec.UNSET:
        check_value(asked, asked.example, f"{pointer}/example")


def _check_places(task: dict[str, Any], parameters: dict[str, Parameter]) -> None:
    known = ", ".join(parameters) or "none"
    for place in places(task, "/task"):
        text = _wrong(place, known, place.name in parameters)
        if text:
            raise Problem("invalid", text, pointer=place.pointer)


def _wrong(place: Place, known: str, is_known: bool) -> str:
    """What is wrong with a place; empty: nothing."""
    if place.is_in_name:
        return "the name of a field has no places; only its value has"
    if place.name is None:
        return "a place is written ${name}; for the text ${ write $${"
    if not is_known:
        return (
            f"there is no parameter {place.name!r} (there are: {known}); "
            f"for the text ${{{place.name}}} write $${{{place.name}}}"
        )
    return ""


def _check_task(task: dict[str, Any], parameters: dict[str, Parameter]) -> str:
    """Is it a task document with values as they may come?  Its namespace."""
    if HIDDEN in _header_values(task):
        text = f"a secret was shown as {HIDDEN} and is not known here; write it"
        raise Problem("invalid", text, pointer="/task")
    if task.get("id") is not None and not any(places(task["id"])):
        text = "every task that is made of it has an id of its own; let it have a place"
        raise Problem("invalid", text, pointer="/task/id")
    values = {name: _sample(asked) for name, asked in parameters.items()}
    try:
        filled = Filling(values, FILLED_MAX).fill(task, "task")
    except TooMuch:
        raise Problem("too-large", f"over {FILLED_MAX} characters are filled in") from None
    try:
        request: TaskRequest = decode(_tasks, _json.encode(filled))
        _check_alone(request, task, "")
        to_new_task(request, "x")
    except Problem as problem:
        pointer = problem.pointer.rstrip("/")
        text = problem.detail
        if any(asked.default is msgspec.UNSET for asked in parameters.values()):
            text += _hint(task, pointer, values)
        raise Problem(problem.code, text, pointer=f"/task{pointer}") from None
    return request.namespace


def _check_alone(request: TaskRequest, task: Any, pointer: str) -> None:
    """It uses no template itself, and no shell reads what is filled in.  Raises Problem."""
    if request.template is not None:
        text = "a template is made of no other; write what that one has"
        raise Problem("invalid", text, pointer=f"{pointer}/template")
    if request.shell and any(places(task.get("command"))):
        text = 'a shell would read the value as its own: put it into "env" and write "$NAME"'
        raise Problem("invalid", text, pointer=f"{pointer}/command")
    if request.map is not None and isinstance(task.get("map"), dict):
        _check_alone(request.map.task, task["map"].get("task", {}), f"{pointer}/map/task")
    if request.workflow is not None:
        parts = task.get("workflow")
        written = parts.get("tasks", []) if isinstance(parts, dict) else []
        for number, part in enumerate(request.workflow.tasks):
            below = written[number] if isinstance(written, list) and number < len(written) else {}
            where = f"{pointer}/workflow/tasks/{number}"
            _check_alone(part, below if isinstance(below, dict) else {}, where)


def _header_values(task: Any) -> set[str]:
    """Values of headers, where secrets stand."""
    found: set[str] = set()

    def look(value: Any) -> None:
        if isinstance(value, dict):
            headers = value.get("headers")
            if isinstance(headers, dict):
                found.update(one for one in headers.values() if isinstance(one, str))
            for one in value.values():
                look(one)
        elif isinstance(value, list):
            for one in value:
                look(one)

    look(task)
    return found


def _sample(asked: Parameter) -> Any:
    if asked.default is not msgspec.UNSET:
        return asked.default
    if asked.example is not msgspec.UNSET:
        return asked.example
    return asked.enum[0] if asked.enum else _SAMPLES[asked.type]


def _hint(task: Any, pointer: str, values: dict[str, Any]) -> str:
    """What to do when what was filled in is what is wrong; empty: it is not."""
    for step in pointer.split("/")[1:]:
        if isinstance(task, dict):
            task = task.get(step)
        elif isinstance(task, list) and step.isdecimal() and int(step) < len(task):
            task = task[int(step)]
    names = [place.name for place in places(task) if place.name is not None]
    if not names:
        return ""
    name = names[0]
    shown = _json.encode(values[name]).decode()[:40]
    return f"; it was checked with {shown} for {name}: give that an example or a default"


# What is kept -------------------------------------------------------------------------------------


@lru_cache(maxsize=DECODED_MAX)
def _decoded(document: bytes) -> TemplateRequest:
    return _requests.decode(document)


def document_of(row: Template) -> dict[str, Any]:
    """What was asked for."""
    return _plain.decode(row.document)


# Values -------------------------------------------------------------------------------------------


def filled(row: Template, use: Use, pointer: str, room: int) -> tuple[dict[str, Any], int]:
    """The task document that comes of a template, and how much room for more is left.

    ``pointer``: to the parameters in what was asked.  Raises Problem.
    """
    template = _decoded(row.document)
    room -= len(row.document)
    values = _values(row.name, template.parameters, use.parameters, pointer)
    filling = Filling(values, room)
    try:
        if room < 0:
            raise TooMuch
        document: dict[str, Any] = filling.fill(template.task, "task")
    except TooMuch:
        text = f"what the templates come to has over {FILLED_MAX} characters"
        raise Problem("too-large", text, pointer=pointer) from None
    return document, filling.left


def _values(
    name: str, parameters: dict[str, Parameter], given: dict[str, Any], pointer: str
) -> dict[str, Any]:
    for parameter, value in given.items():
        asked = parameters.get(parameter)
        where = pointer + pointer_of(parameter)
        if asked is None:
            text = f"template {name} has no parameter {parameter[:100]!a}; {_known(parameters)}"
            raise Problem("invalid", text, pointer=where)
        if value is not None or asked.default is not None:
            check_value(asked, value, where)
    values = dict(given)
    for parameter, asked in parameters.items():
        if parameter in values:
            continue
        if asked.default is msgspec.UNSET:
            said = f": {asked.description}" if asked.description else ""
            text = f"template {name} needs {parameter} ({asked.type}){said}; {_known(parameters)}"
            raise Problem("invalid", text, pointer=pointer + pointer_of(parameter))
        values[parameter] = asked.default
    return values


def _known(parameters: dict[str, Parameter]) -> str:
    """The parameters there are, in words."""
    if not parameters:
        return "it has none"
    return "it has " + ", ".join(f"{name} ({asked.type})" for name, asked in parameters.items())


def check_value(asked: Parameter, value: Any, pointer: str) -> None:
    """Is it of the type, and one of those that may be?  Raises Problem."""
    _check_type(asked, value, pointer)
    if asked.enum is not None and not any(_is_same(value, one) for one in asked.enum):
        known = ", ".join(_shown(one) for one in asked.enum[:20])
        raise Problem("invalid", f"{_shown(value)} is none of {known}", pointer=pointer)


def _check_type(asked: Parameter, value: Any, pointer: str) -> None:
    is_right = isinstance(value, _TYPES[asked.type])
    if isinstance(value, bool) and asked.type != "boolean":
        is_right = False
    if not is_right:
        article = "an" if asked.type[0] in "aeiou" else "a"
        text = f"{article} {asked.type} is needed, not {_shown(value)}"
        raise Problem("invalid", text, pointer=pointer)


def _is_same(one: Any, other: Any) -> bool:
    """Equal also in that a number is no boolean."""
    return bool(one == other) and isinstance(one, bool) is isinstance(other, bool)


def _shown(value: Any) -> str:
    return _json.encode(value).decode()[:60]
