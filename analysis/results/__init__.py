"""The Markdown document of run folders."""
