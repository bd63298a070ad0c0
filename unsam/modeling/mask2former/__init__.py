"""Mask2Former: whole photos by learned queries, with or without granularity."""

from unsam.modeling.mask2former.best_queries import BestQueries
from unsam.modeling.mask2former.granularity_film import GranularityFilm
from unsam.modeling.mask2former.mask2former import Mask2Former
from unsam.modeling.mask2former.query_criterion import QueryCriterion
from unsam.modeling.mask2former.query_decoder import MaskedAttentionDecoder, QueryPredictions

__all__ = [
    "BestQueries",
    "GranularityFilm",
    "Mask2Former",
    "MaskedAttentionDecoder",
    "QueryCriterion",
    "QueryPredictions",
]
