"""What all detectors share: subjects, columns by slot, windows, the share of lost calls."""
