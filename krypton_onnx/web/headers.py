"""What a server should say beside the files of a site, in one table, and the same in the words of usual servers."""

from __future__ import annotations

from pathlib import PurePosixPath

POLICY = {
    "default-src": "'none'",
    # WebAssembly is compiled, which is a word of its own; no text becomes a script.
    "script-src": "'self' 'wasm-unsafe-eval'",
    "worker-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' blob: data:",
    "font-src": "'self'",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
"""Content-Security-Policy: the page may load what lies beside it and talk to nobody else."""

HEADERS = {
    # These two make the page cross-origin isolated, without which a browser gives WebAssembly no threads.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in POLICY.items()),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
"""With every answer."""

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
"""MIME types by suffix. A browser runs no script and streams no WebAssembly of another type."""

REVALIDATE = "no-cache"  # kept, and asked for each time whether it still holds
FOREVER = "public, max-age=31536000, immutable"
ASSETS = "assets"  # the folder of files whose names change with their content


def content_type(name: str) -> str:
    """Of a file, by its suffix."""
    return TYPES.get(PurePosixPath(name).suffix.lower(), "application/octet-stream")


def cache_control(name: str) -> str:
    """Of a file, by its path in the site."""
    return FOREVER if PurePosixPath(name).parts[:1] == (ASSETS,) else REVALIDATE


def netlify() -> str:
    """The file `_headers`, which Netlify and Cloudflare Pages read."""
    lines = ["/*", *(f"  {name}: {value}" for name, value in HEADERS.items())]
    for path in ("/", "/index.html", "/model/*"):
        lines += [path, f"  Cache-Control: {REVALIDATE}"]
    return "\n".join([*lines, f"/{ASSETS}/*", f"  Cache-Control: {FOREVER}", ""])


def apache() -> str:
    """The file `.htaccess`, which Apache reads where AllowOverride is FileInfo or All; needs mod_headers."""
    lines = ["# Apache: needs mod_headers, and AllowOverride FileInfo for this folder."]
    lines += ["AddType application/wasm .wasm", "AddType text/javascript .js .mjs"]
    lines += [f'Header always set {name} "{value}"' for name, value in HEADERS.items()]
    lines += [f'Header set Cache-Control "{REVALIDATE}"']
    lines += [f'<If "%{{REQUEST_URI}} =~ m#/{ASSETS}/#">', f'Header set Cache-Control "{FOREVER}"', "</If>"]
    return "\n".join([*lines, ""])


def nginx() -> str:
    """Lines for a server block of nginx.

    One Cache-Control for all files: an add_header inside a location would switch off those outside of it.
    """
    lines = ["# nginx: include this file in the server block that serves the site.", "charset utf-8;"]
    lines += [f'add_header {name} "{value}" always;' for name, value in HEADERS.items()]
    lines += [f'add_header Cache-Control "{REVALIDATE}";']
    for suffix in (".mjs", ".wasm"):  # which its own mime.types may not have
        kind = TYPES[suffix].partition(";")[0]
        lines += [f"location ~ \\{suffix}$ {{ types {{ }} default_type {kind}; }}"]
    return "\n".join([*lines, ""])


FILES = {"_headers": netlify, ".htaccess": apache, "_nginx.conf": nginx}
"""By the name that each has in the site."""
