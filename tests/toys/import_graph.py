"""What our modules import, read from their source: the arrows of the package, its circles, and
reaches into privates."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHELVES = ("models", "analyses", "findings")
NAMED_TUPLE = {"_asdict", "_fields", "_make", "_replace"}


def sources() -> dict[str, str]:
    """The source of every module of the package and of what stands on its shelves, by dotted name.

    `models/universal.py` is `models/.universal` and `analyses/cycles/measure.py` is
    `analyses/.cycles.measure`, so that what stands on a shelf is told from the shelf itself,
    `loopscope.models`.
    """
    modules = {}
    for folder in ("loopscope", *SHELVES):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            name = ".".join(parts)
            modules[name.replace(f"{folder}.", f"{folder}/.", 1) if folder in SHELVES else name] = (
                path.read_text(encoding="utf-8")
            )
    return modules


def imports(modules: Mapping[str, str]) -> dict[str, set[str]]:
    """The modules that each module imports, inside functions too; imports under TYPE_CHECKING don't
    count."""
    packages = {name.rpartition(".")[0] for name in modules}
    return {
        name: {
            result
            for node in _imports(ast.parse(source))
            for target in _targets(node, name if name in packages else name.rpartition(".")[0])
            if (result := _module(target, modules)) and result != name
        }
        for name, source in modules.items()
    }


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Modules that import each other, however far round (Tarjan 1972). A package's own `__init__`
    counts only for what it imports, since importing `a.b` runs `a` without using it."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    components: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in graph[node]:
            if target not in index:
                visit(target)
            if target in stack:
                low[node] = min(low[node], low[target])
        if low[node] == index[node]:
            at = stack.index(node)
            component, stack[at:] = stack[at:], []
            if len(component) > 1:
                components.append(sorted(component))

    for node in graph:
        if node not in index:
            visit(node)
    return components


def folder(module: str) -> str:
    """The folder or root module that a module belongs to: `core`, `cli`, `models/`."""
    first, _, rest = module.partition(".")
    return first if first.endswith("/") else rest.partition(".")[0]


def unit(module: str) -> str:
    """What may import within itself: a folder of the package, or one thing on a shelf."""
    return ".".join(module.split(".")[:2])


def upward(graph: Mapping[str, set[str]], order: list[list[str]]) -> list[str]:
    """Arrows that don't point from a later line of `order` to an earlier one; files of one folder
    may import each other."""
    rank = {name: line for line, names in enumerate(order) for name in names}
    return sorted(
        f"{module} -> {target}"
        for module, targets in graph.items()
        for target in targets
        if module != "loopscope" and unit(module) != unit(target)
        if target == "loopscope" or rank[folder(target)] >= rank[folder(module)]
    )


def reaches(modules: Mapping[str, str]) -> list[str]:
    """Places that use a private name of another of our modules; named tuples' own methods are no
    privates."""
    trees = {name: ast.parse(source) for name, source in modules.items()}
    members = {name: set(_members(tree)) for name, tree in trees.items()}
    ours = set().union(*members.values())
    places = []
    for name, tree in trees.items():
        aliases = {alias.asname or alias.name for node in _imports(tree) for alias in node.names}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (
                node.level or (node.module or "").startswith("loopscope")
            ):
                places += [f"{name}:{node.lineno} {a.name}" for a in node.names if _private(a.name)]
            if not isinstance(node, ast.Attribute) or not _private(node.attr):
                continue
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            foreign = node.attr in ours and node.attr not in members[name]
            if owner not in ("self", "cls") and (foreign or owner in aliases & _ours(tree)):
                places.append(f"{name}:{node.lineno} {ast.unparse(node)}")
    return places


def _private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in NAMED_TUPLE


def _ours(tree: ast.Module) -> set[str]:
    """Names that a module imports from us."""
    return {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("loopscope"))
        for alias in node.names
    }


def _members(tree: ast.Module) -> Iterator[str]:
    """Private attributes and methods of the classes that a module defines."""
    for kind in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        for node in ast.walk(kind):
            if isinstance(node, ast.FunctionDef) and _private(node.name):
                yield node.name
            elif isinstance(node, ast.Attribute) and _private(node.attr) and isinstance(node.ctx, ast.Store):
                yield node.attr
            elif (
                isinstance(node, ast.AnnAssign)
                and isinstance(node.target, ast.Name)
                and _private(node.target.id)
            ):
                yield node.target.id


def _imports(tree: ast.Module) -> list[ast.Import | ast.ImportFrom]:
    checking = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom) and node not in checking
    ]


def _targets(node: ast.Import | ast.ImportFrom, package: str) -> list[str]:
    """The dotted names that an import asks for; `from a import b` asks for a.b."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
    origin = ".".join([*above, *([node.module] if node.module else [])])
    return [f"{origin}.{alias.name}" for alias in node.names]


def _module(target: str, modules: Mapping[str, str]) -> str | None:
    """The module that an imported name is, or is defined in: models and analyses by their dotted
    name are those on the shelf."""
    for shelf in SHELVES:
        on_shelf = target.replace(f"loopscope.{shelf}.", f"{shelf}/.", 1)
        target = on_shelf if _nearest(on_shelf, modules) not in (None, f"{shelf}/") else target
    return _nearest(target, modules)


def _nearest(name: str, modules: Mapping[str, str]) -> str | None:
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name or None
