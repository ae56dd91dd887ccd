"""Place: where a value of a run stands. A site inside the loop, and one turn of each inner loop."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """A site inside the loop; of a site with inner loops one turn of them."""

    site: str
    inner: tuple[int, ...] = ()
    """The turn of each inner loop."""
    loops: tuple[str, ...] = ()
    """Names of the inner loops, such as ("low",)."""
    axes: tuple[str, ...] = ("batch", "position", "width")
    """The site's own axes."""

    @property
    def label(self) -> str:
        """What it is called in a table: the site, with its turns."""
        turns = ", ".join(f"{name} {turn}" for name, turn in zip(self.loops, self.inner, strict=True))
        return f"{self.site}, {turns}" if turns else self.site

    def axis(self, name: str) -> int | None:
        """Where an axis stands; None if the site has none of that name."""
        return self.axes.index(name) if name in self.axes else None

    def __str__(self) -> str:
        turns = "".join(f"{name}={turn} " for name, turn in zip(self.loops, self.inner, strict=True))
        return turns + self.site
