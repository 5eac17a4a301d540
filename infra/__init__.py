"""The Pulumi program: reads and checks the stack's configuration, and puts the components together.

Pulumi runs `__main__`; `config` holds the vocabulary, `references` and `preflight` find mistakes across sections and on
disk, `load` brings them together. Everything before the first resource is pure but for reading files.
"""
