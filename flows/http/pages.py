"""HTML pages of this folder, which may run their own script, use their own style, and nothing else."""

import base64
import hashlib
import re
from importlib.resources import files
from typing import Any

import jinja2
from fastapi.responses import HTMLResponse


def page(name: str, **values: Any) -> HTMLResponse:
    """The page in the file ``name``, a Jinja template for ``values``."""
    template = files(__package__).joinpath(name).read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True)
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}
    html = environment.from_string(template).render(values)
    policy = (
        "default-src 'none'; img-src data:; media-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    for tag in ("script", "style"):
        for content in re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL):
            digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
            policy += f"; {tag}-src 'sha256-{digest}'"
    return HTMLResponse(html, headers={"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"})
