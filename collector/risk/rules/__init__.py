"""The rules that find risks of an endpoint, one file a theme (docs/use/risk.md lists them)."""

from typing import Final

from collector.risk.finding import Rule
from collector.risk.rules.access import ACCESS_RULES
from collector.risk.rules.content import CONTENT_RULES
from collector.risk.rules.credentials import CREDENTIAL_RULES
from collector.risk.rules.limits import DESCRIPTION_RULES, LIMIT_RULES
from collector.risk.rules.transport import TRANSPORT_RULES

# What the samples of an operation tell of it alone; all else is its path's, and judged with its parent.
OPERATION_RULES: Final = frozenset(
    (
        *("personal_data_without_authentication", "personal_data_partly_authenticated", "secrets_in_response"),
        *("failure_details", "excessive_data", "whole_card_numbers"),
    )
)
RULES: Final[tuple[Rule, ...]] = (
    *ACCESS_RULES,
    *CREDENTIAL_RULES,
    *TRANSPORT_RULES,
    *CONTENT_RULES,
    *DESCRIPTION_RULES,
    *LIMIT_RULES,
)
