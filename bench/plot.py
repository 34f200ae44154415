"""Measurements as a picture beside the table."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from bench.table import RESULTS

# Okabe and Ito's colours, which also the colour-blind tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
INK, FAINT = "#333333", "#dddddd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Points of one kind. Lines of the same `colour` (a number) belong together; `dashed` is a variant."""

    label: str
    points: Sequence[tuple[float, float]]
    colour: int = 0
    dashed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Lines over the same axes. `limit` is a height that matters, and its name; `log` scales both axes."""

    title: str
    x: str
    y: str
    lines: Sequence[Line]
    limit: tuple[float, str] | None = None
    log: bool = False


def draw(title: str, panels: Sequence[Panel], name: str) -> Path:
    """Write `results/<name>.png`: two panels in a row, under one legend."""
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(6.2 * columns, 1 + 4.2 * rows), layout="constrained", facecolor="white")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for one, panel in zip(axes, panels, strict=False):
        _fill(one, panel)
    for spare in axes[len(panels) :]:
        spare.set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    if len(labels) > 1:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 8), frameon=False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold", color=INK)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.png"
    figure.savefig(path, dpi=130, metadata={"Software": None})
    return path


def _fill(axes: Axes, panel: Panel) -> None:
    for line in panel.lines:
        xs, ys = [x for x, _ in line.points], [y for _, y in line.points]
        colour, style = COLOURS[line.colour % len(COLOURS)], "--" if line.dashed else "-"
        fill = "white" if line.dashed else colour
        axes.plot(
            xs, ys, style, color=colour, label=line.label, marker="o", markersize=5, markerfacecolor=fill, linewidth=1.8
        )
    axes.set_title(panel.title, loc="left", fontsize=11, color=INK)
    axes.set_xlabel(panel.x)
    axes.set_ylabel(panel.y)
    _scale(axes, panel)
    if panel.limit:
        height, named = panel.limit
        axes.axhline(height, color=INK, linewidth=1, linestyle=":")
        x = 0.01 if panel.log else 0.99  # where curves rarely are
        across = ("axes fraction", "data")
        axes.annotate(
            named, (x, height), xycoords=across, ha="left" if panel.log else "right", va="bottom", fontsize=9, color=INK
        )
    axes.grid(True, which="major", color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _scale(axes: Axes, panel: Panel) -> None:
    if not panel.log:
        axes.set_xlim(left=0)
        highest = max((y for line in panel.lines for _, y in line.points), default=1.0)
        axes.set_ylim(0, 1.15 * max(highest, panel.limit[0] if panel.limit else 0.0))
        return
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axis.set_minor_locator(NullLocator())
