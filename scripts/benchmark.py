"""`hf-ssl benchmark`, for launchers that start a file."""

import sys

from hf_ssl.cli import main

if __name__ == "__main__":
    sys.exit(main(["benchmark", *sys.argv[1:]]))
