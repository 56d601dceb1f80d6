"""`scripts/chart`: brings up what is made from other files of the chart; see there."""

from scripts.helm.render import write_examples
from scripts.helm.settings_schema import write_schema

write_schema()
write_examples()
