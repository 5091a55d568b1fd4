"""Ratios against published formulas and peers, measured side by side in one run."""
