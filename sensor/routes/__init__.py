"""Routes of paths: templates, segments, words that may be revealed."""
