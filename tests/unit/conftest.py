"""What the tests of properties have in common."""

from __future__ import annotations

from hypothesis import settings

# Tests do not time things. Without this an example has 0.2 s, and what is drawn for the first ten of them 1 s together:
# where processes stand in line for a processor, that is no failure.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
