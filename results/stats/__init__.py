"""Small pure functions on numbers: what a table says of means, differences, ranks and seeds.

``summary`` (what is handed around), ``paired`` (intervals and p of differences), ``verdict`` (a
whole table's at once), ``power`` (seeds needed), ``agreement`` (with the paper), ``aggregate``
(over many cells), ``bootstrap`` (over images). How tables use them, and why so:
docs/decisions/0009-statistics.md. Nothing is imported here: scipy takes a second, and plans do
without it.
"""
