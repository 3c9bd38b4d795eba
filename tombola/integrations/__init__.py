"""Small conveniences inside the libraries that people train with. `find_ticket` needs none of them.

Each module needs its own library (extra `integrations`): `tombola.integrations.lightning` and
`tombola.integrations.transformers`.
"""
