"""`hf-ssl evaluate`, for launchers that start a file."""

import sys

from hf_ssl.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
