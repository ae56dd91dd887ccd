"""The Python code on pages and in notebooks, and which public names and parameters it uses."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from types import ModuleType

import nbformat

import loopscope as ls
from loopscope.common import discovery


def snippets(path: Path) -> list[str]:
    """The cells of a notebook; of a page its blocks and the expressions in backticks that begin
    with `ls.`."""
    if path.suffix == ".ipynb":
        return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    text = path.read_text(encoding="utf-8")
    inline = re.findall(r"`(ls\.[^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return blocks(text) + [code for code in inline if not re.search(r"\.\.\.| / |NAME", code)]


def blocks(text: str) -> list[str]:
    """The blocks ```python of a page, without those marked as not runnable."""
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def missing_names(code: str) -> list[str]:
    """The names `ls.…` in the code that aren't public, or don't exist. A folder that the code
    imports itself is no such name."""
    folders = set(re.findall(r"^import loopscope\.(\w+)", code, re.MULTILINE))
    chains = [ast.unparse(chain) for chain in _chains(ast.parse(code))]
    return [chain for chain in chains if chain.split(".")[1] not in folders and _value(chain) is None]


def missing_parameters(code: str) -> list[str]:
    """The keyword arguments in calls of `ls.…` that the function doesn't have. For an analysis its
    own options count."""
    missing = []
    for call in ast.walk(ast.parse(code)):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and _is_public(call.func):
            names = _parameters(call)
            wrong = [k.arg for k in call.keywords if k.arg and names is not None and k.arg not in names]
            missing += [f"{ast.unparse(call.func)}({name}=)" for name in wrong]
    return missing


def _is_public(chain: ast.expr) -> bool:
    while isinstance(chain, ast.Attribute):
        chain = chain.value
    return isinstance(chain, ast.Name) and chain.id == "ls"


def _chains(tree: ast.AST) -> Iterator[ast.Attribute]:
    """Attribute chains of `ls`, each in full: `ls.maths.period`, not also `ls.maths`."""
    shorter = {node.value for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node not in shorter and _is_public(node):
            yield node


def _value(chain: str) -> object:
    """What a chain stands for, or None. Of anything but a module no attribute is looked up."""
    return reduce(_member, chain.split(".")[1:], ls)


def _member(owner: object, name: str) -> object:
    if not isinstance(owner, ModuleType):
        return owner
    if name.startswith("_") or (owner is ls and name not in ls.__all__):
        return None
    if hasattr(owner, name):
        return getattr(owner, name)
    try:
        return importlib.import_module(f"{owner.__name__}.{name}")
    except ModuleNotFoundError:
        return None


def _is_measured(call: ast.Call) -> bool:
    """Whether an analysis is measured that the call names."""
    function = _value(ast.unparse(call.func))
    return function is ls.analyses.measure and isinstance(call.args[0], ast.Constant)


def _parameters(call: ast.Call) -> set[str] | None:
    """The parameters of the function that is called, or None where it takes any keyword."""
    function = _value(ast.unparse(call.func))
    if _is_measured(call):
        name = ast.literal_eval(call.args[0])
        if name.endswith(".py"):  # a reader's own
            return None
        function = discovery.module("analyses", name).measure
    if not callable(function):
        return None
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return None
    shared = inspect.signature(ls.analyses.measure).parameters if _is_measured(call) else ()
    return {*parameters, *shared} - {"options"}
