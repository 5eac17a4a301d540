"""Where a model's files come from when they are not just a path: training runs, found in what tracks them.

`mlflow.resolve` is the way in. A directory (`tracking_directory`) and a SQLite database (`tracking_database`) are read
without a package, a network or a change; a server (`tracking_server`) is asked. `run` is what they find. What becomes
of the files is `provider.content`'s.
"""
