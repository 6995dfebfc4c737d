"""What the stages, the tools and the benchmarks are made of: a folder a subject.

`runtime`, `data`, `features`, `model`, `scoring`, `page`, in this order: a folder imports from those before it only.
"""

VERSION = "0.2.0"  # as pyproject.toml has it, which copies of the project lack
