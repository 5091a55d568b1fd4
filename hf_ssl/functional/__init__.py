"""The mathematics: pure functions of tensors, torch alone, nothing about models, data or processes.

Embeddings come as (..., B, D) and objectives leave as (...); leading axes (heads, directions) never mix. Half
precision is computed as float32, float64 stays float64, and autocast does not reach in.
"""

from hf_ssl.functional.adaptive import (
    hard_agreement,
    hard_contrast,
    hard_redundancy_reduction,
    omega,
    soft_agreement,
    soft_contrast,
    soft_redundancy_reduction,
    temperatures,
)
from hf_ssl.functional.adaptive_form import soft_nt_xent
from hf_ssl.functional.barlow_twins import barlow_twins, mix_consistency, redundancy_reduction
from hf_ssl.functional.contrastive import info_nce, mix_similarity, moco, moco_v3, nt_xent, queue_scores, simsiam
from hf_ssl.functional.mixing import Mix, draw_mix, mix_views
from hf_ssl.functional.neighbours import knn_predict
from hf_ssl.functional.readings import cross_correlation_readings, effective_rank, mean_pairwise_cka
from hf_ssl.functional.relations import (
    PairScores,
    inner_products,
    logits,
    normalize,
    split_diagonal,
    split_views,
    standardize,
)
from hf_ssl.functional.schedules import learning_rate, mix_warmup, momentum

__all__ = [
    "Mix",
    "PairScores",
    "barlow_twins",
    "cross_correlation_readings",
    "draw_mix",
    "effective_rank",
    "hard_agreement",
    "hard_contrast",
    "hard_redundancy_reduction",
    "info_nce",
    "inner_products",
    "knn_predict",
    "learning_rate",
    "logits",
    "mean_pairwise_cka",
    "mix_consistency",
    "mix_similarity",
    "mix_views",
    "mix_warmup",
    "moco",
    "moco_v3",
    "momentum",
    "normalize",
    "nt_xent",
    "omega",
    "queue_scores",
    "redundancy_reduction",
    "simsiam",
    "soft_agreement",
    "soft_contrast",
    "soft_nt_xent",
    "soft_redundancy_reduction",
    "split_diagonal",
    "split_views",
    "standardize",
    "temperatures",
]
