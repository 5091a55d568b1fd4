"""The commands. Each parses its words and makes one call; all talking to the terminal is here."""

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence

from hf_ssl.errors import HfSslError, UsageError, did_you_mean, listing


def pretrain(words: Sequence[str]) -> int:
    """Pretrain a backbone without labels."""
    from hf_ssl.options import parse_pretrain
    from hf_ssl.run import pretrain_run

    return pretrain_run(parse_pretrain(words), ["hf-ssl", "pretrain", *words])


def evaluate(words: Sequence[str]) -> int:
    """Measure a model's features on labelled images."""
    from hf_ssl.evaluate import evaluate_model, parse_evaluate

    for line in evaluate_model(*parse_evaluate(words), ["hf-ssl", "evaluate", *words]):
        print(line, flush=True)
    return 0


def benchmark(words: Sequence[str]) -> int:
    """Measure speed and memory against the published formulas."""
    from hf_ssl.benchmarks.command import run_benchmarks

    for line in run_benchmarks(words):
        print(line, flush=True)
    return 0


VERBS: dict[str, Callable[[Sequence[str]], int]] = {"pretrain": pretrain, "evaluate": evaluate, "benchmark": benchmark}


def usage() -> str:
    """What can be said after `hf-ssl`."""
    lines = [f"  {name:10s} {(verb.__doc__ or '').strip()}" for name, verb in VERBS.items()]
    return "usage: hf-ssl VERB [options]; hf-ssl VERB --help lists them\n\n" + "\n".join(lines)


def main(words: Sequence[str] | None = None) -> int:
    """Run one command: -> exit code (0 done, 1 failed, 2 wrong usage, 75 stopped after saving)."""
    words = list(sys.argv[1:] if words is None else words)
    show_trace = "--traceback" in words
    words = [word for word in words if word != "--traceback"]
    set_up_logging()
    try:
        if not words or words[0] in ("-h", "--help"):
            print(usage())
            return 0 if words else 2
        if words[0] not in VERBS:
            raise UsageError(
                f"There is no command '{words[0]}'.{did_you_mean(words[0], VERBS)} Known: {listing(VERBS)}."
            )
        return VERBS[words[0]](words[1:])
    except HfSslError as error:
        if show_trace:
            traceback.print_exc()
        if error.exit_code == 1 or os.environ.get("RANK", "0") == "0":  # wrong usage is wrong everywhere: say it once
            print(f"hf-ssl: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(
            "hf-ssl: stopped at once; what was saved stays, and the same command goes on from there.", file=sys.stderr
        )
        return 130
    except Exception as error:
        if show_trace:
            traceback.print_exc()
        text = " ".join(str(error).split()) or type(error).__name__
        print(f"hf-ssl: {type(error).__name__}: {text} (--traceback shows where)", file=sys.stderr)
        return 1


def set_up_logging() -> None:
    """Notices of the package go to stderr as plain lines; the libraries' chatter stays away."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    root = logging.getLogger("hf_ssl")
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    root.propagate = False
    warnings.filterwarnings("ignore", category=FutureWarning)


if __name__ == "__main__":
    sys.exit(main())
