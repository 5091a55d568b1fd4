"""The mathematics: pure functions of tensors, torch alone, nothing about models, data or processes.

Embeddings come as (..., B, D) and objectives leave as (...); leading axes (heads, directions) never mix. Half
precision is computed as float32, float64 stays float64, and autocast does not reach in.
"""

from hf_ssl.functional.barlow_twins import barlow_twins, mix_consistency, redundancy_reduction
from hf_ssl.functional.mixing import Mix, draw_mix, mix_views
from hf_ssl.functional.neighbours import knn_predict
from hf_ssl.functional.readings import cross_correlation_readings, effective_rank
from hf_ssl.functional.relations import PairScores, inner_products, normalize, split_diagonal, standardize
from hf_ssl.functional.schedules import learning_rate, mix_warmup, momentum

__all__ = [
    "Mix",
    "PairScores",
    "barlow_twins",
    "cross_correlation_readings",
    "draw_mix",
    "effective_rank",
    "inner_products",
    "knn_predict",
    "learning_rate",
    "mix_consistency",
    "mix_views",
    "mix_warmup",
    "momentum",
    "normalize",
    "redundancy_reduction",
    "split_diagonal",
    "standardize",
]
