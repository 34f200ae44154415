"""`python -m config` prints the table of settings that the docs show."""

from config.settings import table

print(table(), end="")
