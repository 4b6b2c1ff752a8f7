"""Images from black to white for tests of the smoothed classifier."""

import torch

SIGMA = 0.5


IMAGES = torch.tensor([0, 60, 120, 130, 200, 255], dtype=torch.uint8)[:, None, None, None].expand(6, 1, 3, 3)
