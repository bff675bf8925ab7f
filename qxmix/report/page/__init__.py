"""One self-contained page about a plan: no request leaves it, and every value in it can be read as text."""

from qxmix.report.page.plan import plan_page, write_page

__all__ = ["plan_page", "write_page"]
