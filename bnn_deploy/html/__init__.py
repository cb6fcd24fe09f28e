"""One self-contained HTML page about a deployed file: `page` puts it together from `charts`, `tables` and `graph`.

No script, no network: the page opens from a disk. `markup` escapes whatever comes from a file.
"""

from bnn_deploy.html.page import render_page

__all__ = ["render_page"]
