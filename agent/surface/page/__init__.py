"""The page: what the API tells, for people. Server-rendered, read-only, and loaded when asked for.

    documents of the API ──views──▶ values ──templates──▶ HTML ──┬▶ /  where ``listen`` is set
                                                                 └▶ files (``commitd page``)

``views`` are pure functions of the API's documents, so the same templates show another host's. All
that comes from Git or from containers is escaped by the templates, and what would steer the text
around it (control characters, marks of writing direction) is written out by its code.
"""
