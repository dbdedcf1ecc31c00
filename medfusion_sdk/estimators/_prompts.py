"""Fixed prompts: sentences and their frozen embeddings, computed once and kept with the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from os import PathLike

import numpy as np

from medfusion_sdk.exceptions import ParameterError

__all__ = ["choose_prompts", "embed_prompts", "numbered"]

# The paper's own sentences aren't public; these are ours, in the form of a question that an
# account of it shows.
_DEFAULTS = {
    "diagnosis": "Does this patient have the condition?",
    "prognosis": "What is the risk of the event for this patient?",
    "retrieval": "Find patients with a similar condition.",
}
_MOST_TOKENS = 128


def choose_prompts(prompts: str | Mapping[str, str] | None, tasks: Sequence[str]) -> dict[str, str]:
    """Find the sentence of each task.

    Parameters
    ----------
    prompts : str, mapping of str to str, or None
        One for all tasks, or by task; others have a sentence of ours.
    tasks : sequence of str
        Tasks of the estimator.

    Returns
    -------
    dict of str to str
        In the order of the tasks.

    Raises
    ------
    ParameterError
        For a prompt of a task that isn't there.
    """
    if isinstance(prompts, str):
        return dict.fromkeys(tasks, prompts)
    given = dict(prompts or {})
    unknown = sorted(given.keys() - set(tasks))
    if unknown:
        raise ParameterError(f"prompts names {unknown}, but the tasks are {list(tasks)}.")
    return {task: given.get(task, _DEFAULTS[task]) for task in tasks}


def embed_prompts(
    prompts: Mapping[str, str], backbone: str | PathLike[str]
) -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
    """Embed prompts by a frozen language model: the last state of every token.

    Parameters
    ----------
    prompts : mapping of str to str
        Sentences by task.
    backbone : str or path
        See :class:`~medfusion_sdk.TextEncoder`.

    Returns
    -------
    embeddings : dict of str to ndarray of shape (tokens, width), float32
        Each token's state scaled to length one, whatever the language model's own scale.
    tokens : dict of str to list of str
        The tokens as they read.

    Raises
    ------
    ParameterError
        If a prompt has more tokens than are read.
    """
    import torch

    from medfusion_sdk.backbones.text import borrow_text_backbone
    from medfusion_sdk.backbones.text_source import find_text_source

    source = find_text_source(backbone)
    limit = min(_MOST_TOKENS, source.window)
    user = _User()
    model = borrow_text_backbone(user, source, torch.device("cpu"), torch.float32)
    embeddings, tokens = {}, {}
    for task, sentence in prompts.items():
        with torch.inference_mode():
            windows, lengths = model.tokens.windows([sentence], limit)
            if lengths[0] > limit:
                raise ParameterError(
                    f"the prompt of {task!r} has {lengths[0]} tokens; at most {limit} are read."
                )
            states, _ = model(windows[0])
        embeddings[task] = torch.nn.functional.normalize(states[0], dim=-1).numpy().copy()
        tokens[task] = model.tokens.words(sentence, limit)
    return embeddings, tokens


def numbered(tokens: Sequence[str]) -> list[str]:
    """Tell tokens apart that read alike.

    Parameters
    ----------
    tokens : sequence of str
        As they read.

    Returns
    -------
    list of str
        The second "the" is "the (2)".

    Examples
    --------
    >>> numbered(["the", "heart", "the"])
    ['the', 'heart', 'the (2)']
    """
    seen: Counter[str] = Counter()
    names = []
    for token in tokens:
        seen[token] += 1
        names.append(token if seen[token] == 1 else f"{token} ({seen[token]})")
    return names


class _User:
    """Who keeps the language model alive, no longer than a call."""
