"""What a running training tells whoever watches it: steps, losses, and where the time goes.

Read in this order: `phases` (the time of a step by part), `recorder` (from steps to samples),
`journal` (the file of a process), `report` (the recorder of this process).
"""
