"""`python -m fourierft`, which is `fourierft` where its folder is not on the path."""

import sys

from fourierft.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
