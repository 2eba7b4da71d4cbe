"""Files: written completely or not at all, and owned by this user."""
