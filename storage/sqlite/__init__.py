"""The embedded back end: one SQLite database in one folder, held by one node.

store        all of it behind `storage.interfaces.Store`; `open_store`
folder       the lock, the schema's version and the first look at the data
connection   opening connections, the pragmas and why, what an error code means
migrations   the schema, by version
writer       the one thread that commits; groups what waits, reopens after a fault
ledger       a batch of writes inside one transaction: fences, repeats, heads
statements   many rows in one step
readers      the threads that read; many small reads share one hop and one snapshot
logs inbox accounts feed     the queries of the four contracts
rows         rows as records, checksums verified
checkpoints  moving the log into the database without stalling a commit
erasures     seeing to it that erased bodies stand in no file: the clock; `scrub` is the hand
wal          whether the log of a killed node holds what was acknowledged
doctor       everything that can be wrong; `isolate` gives up what cannot be mended
backup bulk  copies, and large populations
"""
