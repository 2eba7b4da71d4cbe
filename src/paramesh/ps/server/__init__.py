"""What a server holds and how a step changes it. No network and no threads."""
