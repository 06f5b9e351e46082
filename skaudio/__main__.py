"""``python -m skaudio``: the command line."""

import sys

from skaudio._cli.main import main

if __name__ == "__main__":
    sys.exit(main())
