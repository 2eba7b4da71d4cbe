"""What survives a killed server: its log, its snapshots, and the identity of the run."""
