"""`paramesh watch`: what the trainings of this user on this host are doing.

Read in this order: `runs` (which processes are one run), `picture` (what is shown of a run),
`gathering` (from files and servers to pictures), `terminal` and `server` (where they are shown).
"""
