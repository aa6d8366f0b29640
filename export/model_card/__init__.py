"""The model card: what an artifact is, how good it is, and how to load each of its forms.

Generated, never edited; `docs/model_card.md` says where each of its sections comes from.
"""

from export.model_card.card import write_model_card as write_model_card
from export.model_card.evidence import Evidence as Evidence
from export.model_card.evidence import read_evidence as read_evidence
from export.model_card.forms import FORM_PATHS as FORM_PATHS
from export.model_card.forms import describe_word_table as describe_word_table
