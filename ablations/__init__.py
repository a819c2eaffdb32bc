"""Takes what a user asks for; gives plans, running grids and tables, by the ``csl`` command.

From Python: ``from ablations.notebook import Store``; ``Store("csl-store").table("table5")``.
"""
