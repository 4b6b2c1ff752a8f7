"""Examples enter here, as uint8 images with labels."""

import os

# Every package imports this one first. torch's threads spin while they wait for each other, and so take the processor
# from whatever else runs. It must be said before torch is loaded, and the user's own setting stays.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
