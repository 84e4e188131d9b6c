"""Value classes: those of ``runtime.values``, which stands alone. This is the name that the other two packages know them by."""

from runtime.values import asdict as asdict
from runtime.values import dataclass as dataclass
from runtime.values import field as field
from runtime.values import fields as fields
from runtime.values import is_value as is_value
from runtime.values import replace as replace
