"""Reports which ports and called hosts of the node are read, and why the others are not."""
