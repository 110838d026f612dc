"""The store from Python: `from srlm import Store`. Five calls, which only read; everything else is `stages`, and no
promise.

    store = Store("path/of/a/project", rev="v1")     # without rev: what lies there now
    store.pairs("M2")                                # AIFT(M2), a polars frame
    store.judge("M2")                                # how M2 judges answers that people ranked, a polars frame
    store.sql("SELECT model, avg(score) FROM scores GROUP BY model")
    store.dataset("aift_m2")                         # a datasets.Dataset, as `srlm publish` sends it
"""

from srlm._store import Store

__all__ = ["Store"]
