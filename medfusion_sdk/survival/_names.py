"""What an outcome's columns say by their names: an event, its opposite, or a time."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

__all__ = ["says_event", "says_opposite", "says_time"]


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_EVENT = _set(
    "event events evt dead death deaths die died deceased mortality fatal relapse relapsed "
    "recurrence recurred progression progressed failure failed status fustat delta indicator "
    "tod tot verstorben gestorben ereignis deces decede evenement mort muerte muerto fallecido "
    "evento morte morto decesso obito overleden gebeurtenis rezidiv recidive recidiva"
)
_TIME = _set(
    "time times tte t day days week weeks month months mo mos year years yr yrs hour hours "
    "minute minutes duration length los followup futime survtime stime zeit tage monate jahre "
    "dauer temps jours mois annees duree tiempo dias meses anos tempo giorni mesi anni dagen "
    "maanden jaren tijd"
)
_TIME_FIRST = re.compile("(time|times|tte|duration|zeit|temps|tiempo|tempo|tijd)$")
_UNTIL = _set("to till until of before from since bis hasta")
# True where nothing has happened, so far as one knows.
_WELL = _set(
    "alive living live lives lived survive survives survived survivor survivors surviving still "
    "remained remains ongoing unaffected healthy intact functioning freedom "
    "lebt lebend lebendig uberlebt ueberlebt uberlebend ueberlebend vivant vivante vivo viva vivos "
    "vivas survecu survit sobrevivio sobrevive sobreviviente sobreviveu sopravvissuto "
    "sopravvissuta levend overleefd levande zyje zywy"
)
_FREE = re.compile("(free|frei|libre|libero|livre)$")
_SURVIVAL = _set(
    "survival surv uberleben ueberleben survie supervivencia sobrevida sopravvivenza overleving "
    "overlevnad"
)
# "survival" alone is true for who survived; an endpoint's name with one of these is an event.
_INDICATED = _set("event events status dead death died deceased failure 状态 evento")
_NEGATIONS = _set(
    "no not non never without absent absence ohne kein keine keinen nicht sans pas sin senza sem "
    "geen niet"
)
_CENSORED = re.compile("censor|censur|zensier|zensur|cenzur|^cens$|删失|删截")
_UNCENSORED = re.compile("(un|non|not|nicht|pas|no)(is)?(cens|zens)")
# Written without a gap, or of several words.
_SAYS_WELL = re.compile("alive|survivor|survived|amleben|ueberlebt|envie$|invita$|存活|生存")
_LOST = re.compile(
    "lost(to)?(fu|follow|contact)|^lost$|loss(to|of)follow|ltfu|withdr[ae]w|dropp?ed?out|endofstudy"
    "|in(complete)?remiss?ion|enremiss?ion|inremissione|noevidenceof|^a?ned$|underobservation|"
    "stillat|infollowup|atrisk"
)


def says_opposite(name: Any) -> bool:
    """Whether a column of this name is true for those who had no event, as far as one can tell."""
    words = _words(name)
    joined = "".join(words)
    negated = bool(_NEGATIONS & set(words)) or joined.startswith(("not", "non", "didnt"))
    if _CENSORED.search(joined):
        return not (negated or _UNCENSORED.search(joined))
    if _LOST.search(joined):
        return True
    if _says_well(words, joined):
        return not negated
    return negated and bool(_EVENT & set(words) or re.search("event|dead|died|death", joined))


def _says_well(words: list[str], joined: str) -> bool:
    """Whether the words say alive, event-free or the like."""
    if "birth" in words:
        return False
    free = [i for i, word in enumerate(words) if _FREE.search(word)]
    named = words[free[-1] + 1 :] if free else words
    indicated = bool(_INDICATED & set(named)) or "状态" in joined
    if _SURVIVAL & set(words):
        # "progression_free_survival_event" is an event, "progression_free_survival" isn't.
        return not indicated
    return bool(free or _WELL & set(words)) or bool(_SAYS_WELL.search(joined) and not indicated)


def says_event(name: Any) -> bool:
    """Whether a name speaks of an event and of no time."""
    return bool(_EVENT & set(_words(name))) and not says_time(name)


def says_time(name: Any) -> bool:
    """Whether a name speaks of a time: ``"days_to_death"`` does, ``"dead_at_30_days"`` doesn't."""
    words = _words(name)
    times = [i for i, word in enumerate(words) if word in _TIME or _TIME_FIRST.search(word)]
    events = [i for i, word in enumerate(words) if word in _EVENT]
    if not times or not events:
        return bool(times)
    until = any(words[i + 1 : i + 2] and words[i + 1] in _UNTIL for i in times)
    after = times[-1] == events[-1] + 1 == len(words) - 1
    return until or after or bool(_TIME_FIRST.search(words[0]))


def _words(name: Any) -> list[str]:
    """Lower-case words without accents: ``"StillAlive"`` and ``"still_alive"`` are the same."""
    text = unicodedata.normalize("NFKD", str(name))
    text = "".join(letter for letter in text if not unicodedata.combining(letter))
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", text).lower()
    return [word for word in re.split(r"[\W_]+|(?<=[a-z])(?=\d)", text) if word]
