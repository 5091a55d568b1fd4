"""`python -m hf_ssl` is `hf-ssl`."""

import sys

from hf_ssl.cli import main

if __name__ == "__main__":
    sys.exit(main())
