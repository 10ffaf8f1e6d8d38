"""Which rules an evaluator evaluates, where several share the assets: those of its assets, of one of two kinds.

For ``rules.evaluation``. A rule that looks at other assets is evaluated out of the ledger (``rules.passed``), by an
evaluator of its own beside the one for all the others.
"""

from collections.abc import Iterable

from rules.roster import Roster
from rules.standing import Standing


class Share:
    """What one evaluator takes.

    ``assets``: those that are evaluated here, None where nobody shares them and all are. ``leans``: whether it takes
    the rules that look at other assets, or the others; None: both.
    """

    def __init__(self, *, leans: bool | None = None) -> None:
        self.assets: set[int] | None = None if leans is None else set()
        self.leans = leans

    def takes(self, rule: Standing) -> bool:
        """Return whether a rule is evaluated here."""
        is_here = self.leans is None or self.leans is bool(rule.leans_on)
        return is_here and (self.assets is None or rule.asset_id in self.assets)

    def adopt(self, assets: Iterable[int]) -> None:
        """Take assets over from whoever evaluated them before."""
        assert self.assets is not None  # noqa: S101 - they are shared
        self.assets |= set(assets)

    def disown(self, assets: Iterable[int]) -> None:
        """Let go of assets that another evaluates now."""
        assert self.assets is not None  # noqa: S101 - they are shared
        self.assets -= set(assets)

    def among(self, rules: Roster, assets: set[int]) -> list[int]:
        """Return the instances of its kind on some assets, in order."""
        found = rules.concerned(None, assets)
        if self.leans is not None:
            leaning = {one.instance.id for one in rules.leaning()}
            found = found & leaning if self.leans else found - leaning
        return sorted(found)
