"""Request and response: the service that answers over HTTP."""
