"""Files as content: read, named by their digest, packed into layers, and kept in an OCI image layout on disk.

`tree` lists what a path holds, `source` names and copies a folder of code (less what `ignore` says), `layer` makes a
model into a deterministic tar, `layer_stream` lets it be sent without a copy, `modelpack` describes it as an artifact,
`layout` keeps blobs and their index, `models` says what a store of model versions does, `store` is one in such a
layout, and `cache` remembers digests. Nothing here knows of Pulumi; the resources `image_layout` and `model_version`
stand on it.
"""
