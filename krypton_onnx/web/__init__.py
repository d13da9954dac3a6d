"""A static site that explains images in the visitor's own browser: nothing that a visitor opens leaves the machine.

    model.onnx --manifest--> site/model/    app/ --building--> site/index.html, site/assets/    site/ --server--> page

The page itself is in app/ (TypeScript); it knows its model by the manifest alone. `site.write_site` puts both together,
`server.serve` shows them. Nothing is imported here: to serve a site takes no ONNX Runtime.
"""
