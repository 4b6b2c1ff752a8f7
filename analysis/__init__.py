"""From radius tables to numbers and figures."""

from typing import TYPE_CHECKING

from maxup_smoothing.data.runtime.lazy import lazily

#: Where each public name is defined. What is not listed may change at any time.
_HOME = {
    "compare_methods": "analysis.comparison.methods:compare_seeds",
    "compare_networks": "analysis.comparison.networks:compare_tables",
    "draw_curves": "analysis.figures.curves:draw",
    "load_runs": "analysis.runs.run:load",
    "read_log": "certify.logs.reader",
    "step_curve": "analysis.curves",
}
__getattr__, __dir__ = lazily(__name__, _HOME)
__all__ = [
    "compare_methods",
    "compare_networks",
    "draw_curves",
    "load_runs",
    "read_log",
    "step_curve",
]

if TYPE_CHECKING:
    from maxup_smoothing.analysis.comparison.methods import compare_seeds as compare_methods
    from maxup_smoothing.analysis.comparison.networks import compare_tables as compare_networks
    from maxup_smoothing.analysis.curves import step_curve as step_curve
    from maxup_smoothing.analysis.figures.curves import draw as draw_curves
    from maxup_smoothing.analysis.runs.run import load as load_runs
    from maxup_smoothing.certify.logs.reader import read_log as read_log
