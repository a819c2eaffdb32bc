"""Takes what a user asks for; gives plans, running grids and tables, by the ``csl`` command."""
