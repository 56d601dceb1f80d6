"""Reads kinds of Kubernetes objects that lead to Services from outside: a module for each project."""
