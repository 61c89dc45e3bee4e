"""How the processes, the broker and the flow between them are."""
