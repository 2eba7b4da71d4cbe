"""Reading what a run on servers has trained, from its log: for evaluation, serving and export."""
