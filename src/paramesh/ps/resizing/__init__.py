"""Another number of servers for a run that is at rest."""
