"""Servers as Ray actors: clusters, nodes, roles, access and status."""
