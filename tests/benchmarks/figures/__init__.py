"""One module a figure, or a few that belong together; each has `measure(bench) -> rows`.

The first line of a module's docstring says what the figure means.
"""

NAMES = (
    "jobs",
    "http",
    "latency",
    "auth",
    "output",
    "download",
    "followers",
    "store",
    "finished",
    "sleeping",
    "start",
    "login",
)
