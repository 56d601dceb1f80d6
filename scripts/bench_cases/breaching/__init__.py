"""The honest side and the thieves of `scripts/bench breach`, and the way of their calls to the detectors."""
