"""From a checkpoint to a radius table."""

from typing import TYPE_CHECKING

from maxup_smoothing.data.runtime.lazy import lazily

#: Where each public name is defined. What is not listed may change at any time.
_HOME = {
    "ABSTAIN": "certify.statistics.radius",
    "Certificate": "certify.statistics.certificate",
    "SmoothedClassifier": "certify.smoothing",
    "audit_log": "certify.audit.auditing",
    "average_certified_radius": "certify.tables.summary",
    "certified_accuracy": "certify.tables.summary",
    "merge_tables": "certify.distributed.merge",
    "read_table": "certify.tables.radius_table:read",
    "recompute_table": "certify.tables.recompute",
}
__getattr__, __dir__ = lazily(__name__, _HOME)
__all__ = [
    "ABSTAIN",
    "Certificate",
    "SmoothedClassifier",
    "audit_log",
    "average_certified_radius",
    "certified_accuracy",
    "merge_tables",
    "read_table",
    "recompute_table",
]

if TYPE_CHECKING:
    from maxup_smoothing.certify.audit.auditing import audit_log as audit_log
    from maxup_smoothing.certify.distributed.merge import merge_tables as merge_tables
    from maxup_smoothing.certify.smoothing import SmoothedClassifier as SmoothedClassifier
    from maxup_smoothing.certify.statistics.certificate import Certificate as Certificate
    from maxup_smoothing.certify.statistics.radius import ABSTAIN as ABSTAIN
    from maxup_smoothing.certify.tables.radius_table import read as read_table
    from maxup_smoothing.certify.tables.recompute import recompute_table as recompute_table
    from maxup_smoothing.certify.tables.summary import average_certified_radius as average_certified_radius
    from maxup_smoothing.certify.tables.summary import certified_accuracy as certified_accuracy
