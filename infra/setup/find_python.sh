#!/bin/sh
# Prints the path of a Python >= 3.11 that can make virtual environments; what it needs is what every system has.
# PYTHON names one to use; without it, `python3` comes first and then the newest that PATH holds.
# A shell script, so that a machine with an old Python, or none, gets a message instead of a traceback.
set -eu

too_old= no_venv=
for name in ${PYTHON:+"$PYTHON"} $([ -n "${PYTHON:-}" ] || echo python3 python3.14 python3.13 python3.12 python3.11); do
    # A name can be there and not run: pyenv puts one on PATH for every version that it has installed.
    path=$("$name" -c 'import sys; print(sys.executable)' 2>/dev/null) || continue
    if ! "$path" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        too_old="$too_old $path ($("$path" -c 'import sys; print("%d.%d" % sys.version_info[:2])'))"
    elif ! "$path" -c 'import ensurepip, venv' 2>/dev/null; then
        no_venv="$no_venv $path"
    else
        printf '%s\n' "$path"
        exit 0
    fi
done

if [ -n "$no_venv" ]; then
    {
        echo "error: This Python cannot make virtual environments: its venv module is missing."
        echo "  where:$no_venv"
        echo "  mend:  install it (Debian: apt-get install python3-venv), or name another Python: make PYTHON=/path/to/python3.11"
    } >&2
    exit 1
fi
{
    echo "error: No Python 3.11 or newer."
    echo "  where: ${PYTHON:-PATH}; found:${too_old:- none}"
    echo "  mend:  install one (Debian: apt-get install python3 python3-venv), or name it: make PYTHON=/path/to/python3.11"
} >&2
exit 1
