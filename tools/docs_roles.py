"""Roles in docstrings (:class:`~dl.core.task.Task`) as links of the site; read by mkdocs.yml."""

import re

import griffe


class Roles(griffe.Extension):
    def on_object(self, *, obj: griffe.Object, **_) -> None:
        if obj.docstring:
            obj.docstring.value = re.sub(r":\w+:`(~?)([\w.]+)`", link, obj.docstring.value)


def link(role: re.Match) -> str:
    """A link where the site has the name, else the name alone."""
    path = role[2]
    shown = path.rsplit(".", 1)[-1] if role[1] else path
    return f'<autoref identifier="{path}" optional><code>{shown}</code></autoref>'
