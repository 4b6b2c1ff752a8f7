"""One script a question, each side by side with the naive way in one run."""
