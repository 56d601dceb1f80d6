"""Which columns of a row may name the consumer. Both sides have it; whoever needs nothing else loads no settings."""

from enum import StrEnum
from typing import Final


class ConsumerColumn(StrEnum):
    """A column that may name the consumer; the order here is the default one."""

    PRINCIPAL = "principal"
    CREDENTIAL = "credential"
    CLIENT_ADDRESS = "client_address"
    CLIENT_WORKLOAD = "client_workload"


CONSUMER_ORDER: Final = tuple(ConsumerColumn)
