"""Chaos: a moderation service that misbehaves, killed workers, a store that goes away, and real servers under load.

plan      weathers and events in their order: one seed, one plan
service   the moderation service that has the weather, a process of its own
apps      FastAPI and Flask, and what their handlers put on record
load      those who send requests, and those who watch the clock meanwhile
run       all of it started, put through the plan and ended
judge     what must hold, as rules over the report of a run
table     the report in figures
python -m chaos (with tests/ on the path) runs it; `make chaos` does that
"""
