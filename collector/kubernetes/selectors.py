"""Label selectors, as apimachinery's `labels` package matches them. Pure."""

from collections.abc import Mapping

from collector.kubernetes.objects import LabelSelector


def selects(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether a selector takes these labels; an empty one takes all."""
    if any(labels.get(key) != value for key, value in (selector.match_labels or {}).items()):
        return False
    for one in selector.match_expressions or ():
        values, value = one.values or (), labels.get(one.key)
        is_met = {
            "In": value in values,
            "NotIn": value not in values,  # Also where there is no such label.
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }.get(one.operator, False)
        if not is_met:
            return False
    return True
