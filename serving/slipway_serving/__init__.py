"""The scoring server of a Slipway web service: Azure ML v1 entry scripts over HTTP."""

__version__ = "0.1.0"
