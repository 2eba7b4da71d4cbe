"""What higher layers share: contents of Parameters, traces of programs, and placements."""
