"""How a consumer is named in a text, as patterns: `kind:value`, or its value alone where that says enough.

An address is no part of a longer one, and the name of a workload, which is also that of a service, counts only behind
its kind.
"""

import re
from dataclasses import dataclass
from typing import Final

from collector.inventory.consumer import ConsumerKind, ConsumerName

ERASED: Final = "erased"


@dataclass(frozen=True, slots=True)
class Mention:
    """`pattern` for texts here; `sql` for ClickHouse's match() and replaceRegexpAll(), by `sql_replacement`, which
    knows no looking around."""

    pattern: re.Pattern[str]
    sql: str
    sql_replacement: str = rf"\1{ERASED}\2"


def find_mention(consumer: ConsumerName) -> Mention:
    """The patterns of one consumer."""
    prefix, value = re.escape(f"{consumer.kind}:"), re.escape(consumer.value)
    name = prefix + value if consumer.kind is ConsumerKind.WORKLOAD else f"(?:{prefix})?{value}"
    # What would make it a part of something longer; a colon only where the value itself has some (IPv6).
    part = r"0-9A-Za-z_" + (":" if ":" in consumer.value else "")
    before, after = rf"[{part}.-]", rf"[{part}]|[.-][{part}]"
    return Mention(
        pattern=re.compile(rf"(?<!{before}){name}(?!{after})"),
        sql=rf"(^|[^{part}.-]){name}($|[^{part}.-]|[.-]$|[.-][^{part}])",
    )
