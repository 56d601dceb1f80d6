"""Writes all generated files; `scripts/generate` runs it."""

from scripts.helm.render import write_examples
from scripts.helm.settings_schema import write_schema
from scripts.reference.commands import write_commands
from scripts.reference.filters import write_filters
from scripts.reference.kinds import write_pages
from scripts.reference.settings import write_settings

write_schema()
write_examples()
write_settings()
write_commands()
write_filters()
write_pages()
