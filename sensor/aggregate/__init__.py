"""Records of calls added up to rows."""
