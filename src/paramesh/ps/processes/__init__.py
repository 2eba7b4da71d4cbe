"""Tools of processes that run for long: descriptors, events, ends, and the deaths of others."""
