"""Word-level language models, trained by the worst of m noisy copies of each sequence."""
