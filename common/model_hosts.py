"""Hosts of providers of models: by them a sensor knows who answers, and the collector that it is somebody outside.

Names of providers are those of OpenTelemetry's `gen_ai.provider.name`.
"""

import re
from typing import Final

# By their ends.
_HOSTS: Final = (
    (re.compile(r"(?:\A|\.)api\.openai\.com\Z"), "openai"),
    (re.compile(r"\.(?:openai|cognitiveservices)\.azure\.com\Z"), "azure.ai.openai"),
    (re.compile(r"\.(?:services|models)\.ai\.azure\.com\Z"), "azure.ai.inference"),
    (re.compile(r"\Aapi\.anthropic\.com\Z"), "anthropic"),
    (re.compile(r"\Agenerativelanguage\.googleapis\.com\Z"), "gcp.gemini"),
    (re.compile(r"(?:\A|-|\.)aiplatform\.googleapis\.com\Z"), "gcp.vertex_ai"),
    (re.compile(r"\Abedrock-runtime(?:-fips)?\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?\Z"), "aws.bedrock"),
    (re.compile(r"\Aapi\.cohere\.(?:com|ai)\Z"), "cohere"),
    (re.compile(r"\Aapi\.deepseek\.com\Z"), "deepseek"),
    (re.compile(r"\Aapi\.groq\.com\Z"), "groq"),
    (re.compile(r"\Aapi\.mistral\.ai\Z"), "mistral_ai"),
    (re.compile(r"\Aapi\.moonshot\.(?:ai|cn)\Z"), "moonshot_ai"),
    (re.compile(r"\Aapi\.perplexity\.ai\Z"), "perplexity"),
    (re.compile(r"\Aapi\.x\.ai\Z"), "x_ai"),
    (re.compile(r"\Aopenrouter\.ai\Z"), "openrouter"),
)


# The same as one expression of RE2, for statements of the store; of a name with or without a port.
PROVIDER_HOSTS: Final = "|".join(pattern.pattern.replace(r"\Z", r"(?::[0-9]*)?\z") for pattern, _ in _HOSTS)


def find_host_provider(host: str) -> str:
    """The provider whose host this is, with or without a port; empty where it is of none that is known."""
    name = host.partition(":")[0]
    return next((provider for pattern, provider in _HOSTS if pattern.search(name)), "")
