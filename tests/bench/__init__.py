"""
The benchmark: how fast, how much and how heavy, beside what people would use instead.

`python -m tests.bench`, or `make bench`.  One run measures ours and the peers in turns, on one
sandbox, and writes its raw samples as JSON; the page is made of those alone.

- `plan` says how much a run measures, and how little a quick look does
- `samples` is what a run has measured, and how it is kept
- `ground` is the cluster, FireHydrant, our two processes, and broken Deployments by the dozen
- `peers` starts what ours is compared with, `rulebook` one that few have at hand; `sender` posts
  and clocks webhooks
- `witness` reads instants and counts out of the API server's audit log
- `requests` measures one rollback at a time and many at once, `processes` memory, start and end
- `budgets` holds the figures against docs/design.md §7; `page` writes docs/benchmark.md
- `machine` says what all of this ran on
"""
