"""Measurements against peers, side by side in one run. They measure and never fail; tests do not time things."""
