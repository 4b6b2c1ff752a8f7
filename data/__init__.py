"""Examples enter here, as uint8 images with labels."""
