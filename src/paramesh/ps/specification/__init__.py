"""What servers and workers agree on before the first step."""
