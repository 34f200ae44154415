"""`python -m cli` is `stenopool`."""

from cli.main import main

main()
