"""How the code reads: lengths of files and functions, names in the field's words, docstrings, prose
of 100 columns."""

import ast
import io
import re
import statistics
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from .toys.import_graph import ROOT

LIBRARY = [
    p
    for folder in ("loopscope", "models", "analyses", "findings")
    for p in sorted((ROOT / folder).rglob("*.py"))
]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
PAGES = [p for pattern in ("*.md", "*/*.md") for p in sorted(ROOT.glob(pattern)) if p.parts[-2][0] != "."]
RIDDLES = {
    "anew",
    "asked",
    "asks",
    "beside",
    "found",
    "given",
    "gone",
    "known",
    "onward",
    "own",
    "said",
    "says",
    "seen",
    "shown",
    "spared",
    "sways",
    "told",
    "ways",
}
"""Words that name nothing: a participle says that something was done, not what the thing is."""
PROSE = 100


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def names(tree: ast.AST) -> Iterator[str]:
    """The names of functions, classes, parameters and fields."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        if isinstance(node, ast.ClassDef):
            yield from (
                item.target.id
                for item in node.body
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
            )


def riddles(source: str) -> set[str]:
    return {name for name in names(ast.parse(source)) if RIDDLES & set(name.lower().split("_"))}


def long_functions(source: str) -> list[str]:
    """Functions of more than 60 lines without a comment above them that says why they are long."""
    lines = source.splitlines()
    return [
        node.name
        for node in functions(ast.parse(source))
        if node.end_lineno - node.lineno >= 60
        and not re.match(r"\s*# .*\blong\b", lines[min(d.lineno for d in [node, *node.decorator_list]) - 2])
    ]


def undocumented(trees: dict[str, ast.Module]) -> list[str]:
    """Public functions, classes and methods without a docstring; a method may have that of the
    class it overrides."""
    inherited = {
        method.name
        for tree in trees.values()
        for kind in ast.walk(tree)
        if isinstance(kind, ast.ClassDef)
        for method in kind.body
        if isinstance(method, ast.FunctionDef) and ast.get_docstring(method)
    }
    missing = []
    for name, tree in trees.items():
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                inner = node.body if isinstance(node, ast.ClassDef) else []
                methods = [m for m in inner if isinstance(m, ast.FunctionDef) and not m.name.startswith("_")]
                missing += [
                    f"{name}:{item.lineno} {item.name}"
                    for item in [node, *methods]
                    if not ast.get_docstring(item) and not (item is not node and item.name in inherited)
                ]
    return missing


def wide_prose(path: Path) -> list[int]:
    """Lines of docstrings, comments and Markdown that are wider than 100 columns; tables, code and
    links may be."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    if path.suffix == ".md":
        text = re.sub(r"```.*?```", lambda block: "\n" * block[0].count("\n"), text, flags=re.DOTALL)
        rows = list(enumerate(text.splitlines(), 1))
        return [
            n
            for n, line in rows
            if len(line) > PROSE and "|" not in line and not re.search(r"\]\(\S+\)\S*$", line)
        ]
    comments = {
        token.start[0]
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT and token.line.lstrip().startswith("#")
    }
    strings = {
        number
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        for number in range(node.lineno, node.end_lineno + 1)
    }
    return sorted(n for n in comments | strings if len(lines[n - 1]) > PROSE and ">>>" not in lines[n - 1])


@pytest.mark.parametrize("path", LIBRARY, ids=relative)
def test_no_name_is_a_riddle(path: Path):
    assert not RIDDLES & set(path.stem.split("_"))
    assert riddles(path.read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize("path", LIBRARY, ids=relative)
def test_a_long_function_says_why(path: Path):
    assert long_functions(path.read_text(encoding="utf-8")) == []


def test_files_are_short():
    length = {relative(p): len(p.read_text(encoding="utf-8").splitlines()) for p in [*LIBRARY, *TESTS]}
    assert {name: n for name, n in length.items() if n > 400} == {}
    library = [length[relative(p)] for p in LIBRARY]
    assert sum(n > 300 for n in library) <= 5
    assert statistics.median(library) <= 110


def test_everything_public_has_a_docstring():
    trees = {relative(p): ast.parse(p.read_text(encoding="utf-8")) for p in LIBRARY}
    assert undocumented(trees) == []


@pytest.mark.parametrize("path", [*LIBRARY, *TESTS, *PAGES], ids=relative)
def test_prose_has_at_most_100_columns(path: Path):
    assert wide_prose(path) == []


# The checks see what they are for


@pytest.mark.parametrize(
    "source",
    [
        "def told(): ...",
        "class Said: ...",
        "def f(known_rows): ...",
        "class A:\n    own_map: int",
        "lambda asked: 1",
    ],
)
def test_a_riddle_is_seen(source: str):
    assert len(riddles(source)) == 1


def test_a_long_function_and_a_missing_docstring_are_seen():
    body = "\n".join(f"    x{n} = {n}" for n in range(60))
    assert long_functions(f"\ndef f():\n{body}") == ["f"]
    assert long_functions(f"# It is long because it lists sixty numbers.\ndef f():\n{body}") == []
    a = ast.parse('class A:\n    """A."""\n    def step(self): ...\n    def _f(self): ...')
    assert undocumented({"a": a}) == ["a:3 step"]
    assert (
        undocumented(
            {"a": a, "b": ast.parse('class B:\n    """B."""\n    def step(self):\n        """S."""')}
        )
        == []
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.py", f'"""{"word " * 30}"""'), ("a.py", f"x = 1\n# {'word ' * 30}"), ("a.md", "word " * 30)],
)
def test_wide_prose_is_seen(tmp_path: Path, name: str, text: str):
    path = tmp_path / name
    path.write_text(text + "\n", encoding="utf-8")
    assert wide_prose(path)
