"""A report as a single HTML page that needs no other files."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from keras_vae.evaluation.reporting.row import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1f24; background: #fff;
       max-width: 1080px; margin: 0 auto; padding: 24px; }
h1 { font-size: 24px; margin: 0 0 4px; }
h2 { font-size: 17px; margin: 28px 0 8px; border-bottom: 1px solid #d8dee4; padding-bottom: 4px; }
p.lead { color: #57606a; margin: 0 0 12px; }
.tables { display: grid; grid-template-columns: repeat(auto-fit, minmax(440px, 1fr)); gap: 0 32px; }
table { border-collapse: collapse; width: 100%; }
td { padding: 3px 8px 3px 0; vertical-align: top; border-bottom: 1px solid #eef1f4; }
td.value { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.note { color: #57606a; font-size: 13px; display: block; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(440px, 1fr)); gap: 20px; }
figure { margin: 0; } figcaption { font-weight: 600; margin-bottom: 4px; }
img { max-width: 100%; height: auto; }
@media (max-width: 520px) { .tables, .figures { grid-template-columns: 1fr; } }
"""


def page(
    title: str,
    lead: str,
    sections: Mapping[str, Sequence[Row]],
    figures: Mapping[str, Figure],
    remarks: Mapping[str, Mapping[str, Any]],
) -> str:
    """Returns the page as HTML.

    Args:
        title: Heading of the page.
        lead: The sentence below the heading.
        sections: Rows of each table, by the table's title.
        figures: matplotlib figures, by caption.
        remarks: Lists of names with a remark on each, by the title of the list.
    """
    tables = "".join(_table(name, rows) for name, rows in sections.items())
    drawn = "".join(_figure(name, figure) for name, figure in figures.items())
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f'<p class="lead">{html.escape(lead)}</p>',
        f'<div class="tables">{tables}</div>',
        f'<h2>Figures</h2><div class="figures">{drawn}</div>' if drawn else "",
        *(_list(name, items) for name, items in remarks.items()),
    ]
    head = f"<title>{html.escape(title)}</title><style>{_STYLE}</style>"
    meta = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    body = "".join(parts)
    return f'<!DOCTYPE html>\n<html lang="en"><head>{meta}{head}</head><body>{body}</body></html>\n'


def _table(title: str, rows: Sequence[Row]) -> str:
    lines = "".join(
        f"<tr><td>{html.escape(row.name)}{_note(row.note)}</td>"
        f'<td class="value">{html.escape(_signed(row.text))}</td></tr>'
        for row in rows
    )
    return f"<section><h2>{html.escape(title)}</h2><table>{lines}</table></section>"


def _signed(text: str) -> str:
    return text.replace("+-", "±")


def _note(text: str) -> str:
    return f'<span class="note">{html.escape(text)}</span>' if text else ""


def _figure(name: str, figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    caption = html.escape(name)
    image = f'<img alt="{caption}" src="data:image/png;base64,{data}">'
    return f"<figure><figcaption>{caption}</figcaption>{image}</figure>"


def _list(title: str, items: Mapping[str, Any]) -> str:
    lines = "".join(
        f"<tr><td>{html.escape(str(name))}</td><td>{html.escape(str(value))}</td></tr>"
        for name, value in items.items()
    )
    return f"<h2>{html.escape(title)}</h2><table>{lines}</table>"
