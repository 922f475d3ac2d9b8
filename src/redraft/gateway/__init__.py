"""The gateway: policies behind an OpenAI-compatible server, chosen request by request from what edits cost."""
