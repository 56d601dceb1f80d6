"""What all detectors share: subjects, columns by slot, windows, loss."""
