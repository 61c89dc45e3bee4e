"""The JSON documents that the dashboard's page gets: one per section, and those of the actions.

Times end in ``_ms``: milliseconds since the epoch, UTC. Durations end in ``_s`` or ``_ms`` too and
say so. Shares are in [0, 1], rates in records per second, sizes in bytes. None is "not known" (or
"does not apply"), and never 0. A version 0 of a model is the pipeline's stated prior.

``GET /api/<section>`` gives a section whole. ``GET /api/stream`` sends server-sent events named by
the section with the same document as data whenever it has changed; of :class:`Drift` and
:class:`Performance` only what is new (``whole`` is false), to be merged by window.
"""
