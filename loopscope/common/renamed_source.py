"""A model's file under another name: what in it bears the old one."""

import ast


def renamed_source(text: str, old: str, new: str) -> str:
    """The source of an architecture's file as that of an architecture called `new`: its recipes
    train that, and their names, which are those of trained entries, are new too.

    >>> renamed_source('RECIPES = {"ouro-mano": Recipe(architecture="ouro")}', "ouro", "mine")
    'RECIPES = {"mine-mano": Recipe(architecture="mine")}'

    Arguments:
        old: the architecture's name; an entry's name that begins with it begins with the new one,
            and any other gets it in front.
    """
    tree, edits = ast.parse(text), []
    hyphens = new.replace("_", "-")
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "architecture" and _is(node.value, old):
            edits.append((node.value, new))
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign) and isinstance(node.value, ast.Dict):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == "RECIPES" for target in targets):
                for key in node.value.keys:
                    if isinstance(key, ast.Constant) and isinstance(key.value, str):
                        rest = key.value.removeprefix(f"{old}-")
                        edits.append((key, f"{hyphens}-{rest}"))
    lines = text.split("\n")
    for node, value in sorted(edits, key=lambda edit: (edit[0].lineno, edit[0].col_offset), reverse=True):
        line = lines[node.lineno - 1].encode()  # columns count bytes
        changed = line[: node.col_offset] + f'"{value}"'.encode() + line[node.end_col_offset :]
        lines[node.lineno - 1] = changed.decode()
    return "\n".join(lines)


def _is(node: ast.expr, value: str) -> bool:
    return isinstance(node, ast.Constant) and node.value == value
