"""`python -m paramesh`: the command line."""

from paramesh.cli import main

if __name__ == "__main__":
    main()
