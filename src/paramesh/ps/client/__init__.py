"""A worker's side of the protocol, as a state machine. No network and no clock of its own."""
