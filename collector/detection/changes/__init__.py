"""Reports what is new: endpoints, consumers, classes of data, third parties, missing authentication."""
