"""The list of servers of the Model Context Protocol, and one server."""
