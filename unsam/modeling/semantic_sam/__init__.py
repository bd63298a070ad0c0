"""SemanticSam: six masks per click or box, from fine to coarse (UnSAM promptable)."""

from unsam.modeling.semantic_sam.criterion import PromptCriterion
from unsam.modeling.semantic_sam.prompted_decoder import PromptedDecoder, TokenStates
from unsam.modeling.semantic_sam.semantic_sam import EncodedPhotos, SemanticSam

__all__ = ["EncodedPhotos", "PromptCriterion", "PromptedDecoder", "SemanticSam", "TokenStates"]
