"""From noise and a model to votes and certificates of many images, and what watches over that."""
