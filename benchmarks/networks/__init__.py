"""The networks that the benchmarks train, in the words of each library.

`definitions` says what they are: sizes, first weights and batches, the same for all. Each other
file says how a good user of one library writes them; all do the same arithmetic in float32, so that
their losses agree.
"""
