"""Empty figures to draw into."""

import io
from typing import Any


def new_figure(width: float, height: float) -> Any:
    """An empty matplotlib figure, its size in inches. A notebook shows it where it is a cell's last
    value, whatever matplotlib draws on otherwise."""
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(width, height), layout="constrained")

    def png() -> bytes:
        file = io.BytesIO()
        figure.savefig(file, format="png")
        return file.getvalue()

    figure._repr_png_ = png
    return figure


def no_formula(text: object) -> str:
    """``text`` as matplotlib shall show it: two $ in a name of somebody's would be read as a formula."""
    return str(text).replace("$", r"\$")
