"""The parameter server: Parameters that live, and are updated, on servers."""
