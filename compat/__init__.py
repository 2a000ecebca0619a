"""Is Lamina's Placement API OpenStack Placement's? Its own HTTP tests, and the same random questions put to both.

`make compat` runs it, in a virtual environment that has OpenStack Placement and nothing of Lamina; Lamina is a process
of its own, spoken to over HTTP. Each part ends in a summary; what may fail, and why, is listed in docs/api.md.
"""
