"""The embedded back end: one SQLite database in one folder, held by one node.

connection   opening connections, the pragmas and why, what an error code means
migrations   the schema, by version
statements   many rows in one step
ledger       a batch of writes inside one transaction: fences, repeats, heads
writer       the one thread that commits; groups what waits, reopens after a fault
readers      the threads that read; many small reads share one hop and one snapshot
checkpoints  moving the log into the database without stalling a commit
logs inbox accounts feed     the queries of the four contracts
checks       at open: schema and tail; `doctor`: everything
backup bulk  copies, and large populations
store        all of it behind `storage.interfaces.Store`
"""
