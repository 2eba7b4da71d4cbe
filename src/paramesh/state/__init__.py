"""What the floors above share: contents of Parameters, traces of programs, and placements."""
