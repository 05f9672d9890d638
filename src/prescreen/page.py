"""The page of the `html` rejection: no script, no outside resource, readable without a style sheet."""

from typing import Final

PAGE: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1.125rem/1.6 system-ui, sans-serif; margin: 0; display: grid; min-height: 100vh;
  place-items: center; }}
main {{ max-width: 34rem; padding: 2rem; }}
h1 {{ font-size: 1.6rem; line-height: 1.25; margin: 0 0 1rem; }}
small {{ opacity: .75; }}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p>{detail}</p>
<p><small>Reference: <code>{id}</code></small></p>
</main>
</body>
</html>
"""
