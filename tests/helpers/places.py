"""Where things lie: the repository, the helpers of the tests, their reference files, and data beside the repository."""

from pathlib import Path

HELPERS = Path(__file__).resolve().parent
ROOT = HELPERS.parents[1]
REFERENCE = HELPERS.parent / "reference"
#: Absent where the repository stands alone; tests that need it are then skipped.
SHARED = ROOT.parent / "shared"
