"""A process that serves the dashboard of a filled log: NAME BOOTSTRAP FOLDER of its link.

A process of its own, as for users: the server minds signals, and the tests' own threads are no
burden to it.
"""

import sys
from pathlib import Path

from serving.dashboard.options import DashboardOptions
from serving.dashboard.server import serve_dashboard
from tests.serving.dashboard.filled_log import pipeline_of

TOKEN = "for-the-tests-alone-0123456789abcdef"  # noqa: S105


def main(name: str, bootstrap: str, folder: str) -> None:
    """Serve on a free port; the page's address goes to the file ``url`` when it can be asked."""
    options = DashboardOptions(port=0, token=TOKEN)

    def show(link: str) -> None:
        new = Path(folder, "url.new")
        new.write_text(link.partition("login?")[0])
        new.replace(Path(folder, "url"))

    serve_dashboard(pipeline_of(name), bootstrap, options, show)


if __name__ == "__main__":
    main(*sys.argv[1:])
