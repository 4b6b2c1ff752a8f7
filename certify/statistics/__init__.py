"""From votes to a certificate and back, with NumPy and SciPy alone."""

from typing import TYPE_CHECKING

from maxup_smoothing.data.runtime.lazy import lazily

#: Where each public name is defined. What is not listed may change at any time.
_HOME = {
    "Look": "certify.statistics.certificate",
    "Procedure": "certify.statistics.procedure:Sampling",
    "ceiling_radius": "certify.statistics.radius",
    "certified_radius": "certify.statistics.radius",
    "expectation": "certify.statistics.sample_size",
    "lower_confidence_bound": "certify.statistics.binomial",
    "two_class_radius": "certify.statistics.radius",
    "two_sided_p_value": "certify.statistics.binomial",
    "upper_confidence_bound": "certify.statistics.binomial",
}
__getattr__, __dir__ = lazily(__name__, _HOME)
__all__ = [
    "Look",
    "Procedure",
    "ceiling_radius",
    "certified_radius",
    "expectation",
    "lower_confidence_bound",
    "two_class_radius",
    "two_sided_p_value",
    "upper_confidence_bound",
]

if TYPE_CHECKING:
    from maxup_smoothing.certify.statistics.binomial import lower_confidence_bound as lower_confidence_bound
    from maxup_smoothing.certify.statistics.binomial import two_sided_p_value as two_sided_p_value
    from maxup_smoothing.certify.statistics.binomial import upper_confidence_bound as upper_confidence_bound
    from maxup_smoothing.certify.statistics.certificate import Look as Look
    from maxup_smoothing.certify.statistics.procedure import Sampling as Procedure
    from maxup_smoothing.certify.statistics.radius import ceiling_radius as ceiling_radius
    from maxup_smoothing.certify.statistics.radius import certified_radius as certified_radius
    from maxup_smoothing.certify.statistics.radius import two_class_radius as two_class_radius
    from maxup_smoothing.certify.statistics.sample_size import expectation as expectation
