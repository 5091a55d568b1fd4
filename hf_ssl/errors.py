"""Mistakes a user can make, each told in one sentence that names the value and the remedy."""

import difflib
from collections.abc import Iterable


class HfSslError(Exception):
    """A run cannot go on; the message says what to do. The commands turn it into exit code 1."""

    exit_code = 1


class UsageError(HfSslError):
    """The request itself is wrong (option, name, combination). The commands turn it into exit code 2."""

    exit_code = 2


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the candidate nearest to `name`, or an empty string if none is near."""
    near = difflib.get_close_matches(name, list(candidates), n=1, cutoff=0.5)
    return f" Did you mean '{near[0]}'?" if near else ""


def listing(names: Iterable[str], limit: int = 20) -> str:
    """Return names quoted and joined for a message, cut after `limit`."""
    quoted = [f"'{name}'" for name in names]
    more = f" and {len(quoted) - limit} more" if len(quoted) > limit else ""
    return ", ".join(quoted[:limit]) + more
