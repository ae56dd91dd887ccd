"""A result as a table for a paper, in LaTeX with the package booktabs."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .analysis_result import AnalysisResult

_SIGNS = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "\n": " ",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "−": "$-$",
    "·": r"$\cdot$",
    "×": r"$\times$",
    "²": "$^2$",
} | {sign: f"\\{sign}" for sign in "&%$#_{}"}


def latex(text: str) -> str:
    """Plain text for LaTeX, with every sign that it would interpret escaped."""
    return "".join(_SIGNS.get(sign, sign) for sign in text)


def latex_table(result: "AnalysisResult") -> str:
    """The verdict, and the estimates with their 95 % intervals."""
    rows = [
        f"{latex(one.name)} & {_number(one.value)} & "
        + (
            f"{_number(one.low)} to {_number(one.high)}"
            if one.low == one.low and one.high == one.high
            else ""
        )
        + r" \\"
        for one in result.evidence.estimates
    ]
    lines = [r"\begin{tabular}{lrr}", r"\toprule", _across(result.sentence), r"\midrule"]
    lines += [r"quantity & value & 95\,\% interval \\", r"\midrule", *rows] if rows else []
    lines += [_across(result.evidence.how)] if result.evidence.how else []
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _across(text: str) -> str:
    """A row of text over all columns."""
    return rf"\multicolumn{{3}}{{p{{0.8\linewidth}}}}{{{latex(text)}}} \\"


def _number(value: float) -> str:
    return "unknown" if value != value else latex(f"{value:.3g}".replace("-", "−"))
