"""Discovery and saving of scripts/figures/*.py.

A figure is one file with one function, `figure(runs) -> matplotlib Figure | str | None` (a text: why these runs cannot
be shown; None: they are about something else). It is given training runs, or the kinds that the file's KINDS names:
train, bench, eval. The first line of the file's docstring is its title, the rest its caption. A new file is found by
itself, by plot and by report.
"""

import importlib.util
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure as Canvas

from .results import Run

FOLDER = Path(__file__).resolve().parents[1] / "figures"


@dataclass
class Figure:
    name: str
    title: str
    caption: str
    function: Callable[[list[Run]], Canvas | str | None]
    order: int = 50  # place in the report: ORDER in the file
    kinds: tuple[str, ...] = ("train",)  # of runs that it is given: KINDS in the file

    def draw(self, runs: list[Run]) -> Canvas | str | None:
        return self.function([r for r in runs if r.kind in self.kinds])


def discover() -> list[Figure]:
    found = []
    for path in sorted(FOLDER.glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"figures.{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        title, _, caption = (module.__doc__ or path.stem).strip().partition("\n")
        caption = " ".join(caption.split())
        more = {k.lower(): getattr(module, k) for k in ("ORDER", "KINDS") if hasattr(module, k)}
        found.append(Figure(path.stem, title.rstrip("."), caption, module.figure, **more))
    return sorted(found, key=lambda f: (f.order, f.name))


def svg(canvas: Canvas) -> str:
    """The drawing as an <svg> element with a viewBox, without XML prologue or fixed size."""
    buffer = io.StringIO()
    canvas.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    return re.sub(r'(<svg[^>]*?) (?:width|height)="[^"]*"([^>]*?) (?:width|height)="[^"]*"', r"\1\2", text, count=1)


def save(canvas: Canvas, folder: Path, name: str) -> list[Path]:
    """NAME.png (200 dots per inch) and NAME.svg; the same data gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.png", folder / f"{name}.svg"]
    canvas.savefig(paths[0], dpi=200, facecolor="white", metadata={"Software": None})
    canvas.savefig(paths[1], facecolor="white", metadata={"Date": None})
    return paths
