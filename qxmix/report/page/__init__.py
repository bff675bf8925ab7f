"""Self-contained pages: no request leaves them, and every value in them can be read as text."""

from qxmix.report.page.compare import compare_page
from qxmix.report.page.plan import plan_page
from qxmix.report.page.template import write_page

__all__ = ["compare_page", "plan_page", "write_page"]
