"""`python -m benchmarks.assets`: lists the cases, of which BENCH_CASES chooses."""

from benchmarks.assets import CASES

print("\n".join(CASES))
