"""What the Makefile calls around `pulumi`: set-up of this machine, the stack's lock, the shell's environment.

Nothing here is imported by the Pulumi program, and nothing here needs a package: these modules run before the
virtual environment has any.
"""
