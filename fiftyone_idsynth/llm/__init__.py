"""A language model behind an OpenAI-compatible address: structured answers, retries, a budget, errors with remedies."""

from .client import LanguageModel
from .errors import BudgetExceeded, LanguageModelError

__all__ = ["BudgetExceeded", "LanguageModel", "LanguageModelError"]
