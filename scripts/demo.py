"""The demonstration: pretrain on patches of ten photographs, show that the features are good, load them three ways.

The photographs come with scikit-image, so nothing is downloaded. Patches are easy and few: this proves the machinery,
it is no benchmark.
"""

import argparse
import subprocess
import sys
from pathlib import Path

RECIPE, STEPS, SECONDS = "mixbt-photos", 250, 120  # about that many steps in that many seconds on two CPU cores

LOADERS = {
    "transformers": "from transformers import AutoModel; m = AutoModel.from_pretrained({0!r}); f = m(x).pooler_output",
    "timm": "import timm; m = timm.create_model('local-dir:' + {0!r}, pretrained=True).eval(); f = m(x)",
    "hf_ssl": ("import hf_ssl; m = hf_ssl.AutoSSLModel.from_pretrained({0!r} + '/pretraining'); f = m.encode(x)"),
}


def features_in_a_fresh_process(code: str, folder: str) -> list[float]:
    """Run one loader in a new interpreter: -> the features of one fixed image."""
    program = (
        "import torch; torch.set_grad_enabled(False); x = torch.linspace(-2, 2, 3 * 32 * 32).view(1, 3, 32, 32)\n"
        f"{code.format(folder)}\nprint(*f.flatten().tolist())"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return [float(number) for number in done.stdout.split()[-512:]]


def hf_ssl(*words: str) -> None:
    """Run one command of the package, as a user would."""
    print(f"\n$ hf-ssl {' '.join(words)}", flush=True)
    subprocess.run([sys.executable, "-m", "hf_ssl", *words], check=True)


def main() -> None:
    """Pretrain, evaluate against raw pixels and the untrained network, and load."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="about how long to train on two CPU cores")
    parser.add_argument("--output_dir", default="runs/demo", help="folder of the run")
    arguments = parser.parse_args()
    steps = max(10, round(STEPS * arguments.seconds / SECONDS))
    folder = arguments.output_dir
    hf_ssl("pretrain", "--recipe", RECIPE, "--max_steps", str(steps), "--output_dir", folder)
    hf_ssl("evaluate", folder, "--protocols", "knn", "linear", "--baselines")
    print("\nThe saved model, opened in fresh processes:")
    features = {name: features_in_a_fresh_process(code, folder) for name, code in LOADERS.items()}
    first = features["transformers"]
    for name, values in features.items():
        gap = max(abs(a - b) for a, b in zip(first, values, strict=True))
        print(f"  {name:13s} {len(values)} features, largest difference from transformers {gap:.1e}")
        if gap > 1e-4:
            raise SystemExit(f"{name} loads other features than transformers")
    path = Path(folder)
    print(f"\nCard {path / 'README.md'}, curves {path / 'report'}, results {path / 'results.json'}. Load it with")
    print(f'  AutoModel.from_pretrained("{folder}")')


if __name__ == "__main__":
    main()
