"""`python -m fourierft`, which is `fourierft` where its folder is not on the path."""

import sys

from fourierft.cli.main import main

sys.exit(main())
