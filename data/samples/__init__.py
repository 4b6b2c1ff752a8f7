"""About 5 MB of real Fashion-MNIST, so that the first run needs no network."""
