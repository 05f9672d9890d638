"""Differential fuzzing: whatever a framework's own accessor hands to a handler, the moderator has seen.

bodies    one integer makes one request: by a grammar, then mutated
oracles   what each framework would hand to a handler for it
parsers   what those end in, each asked for itself
judge     prescreen's flow on the request, then the oracles: is a string unseen?
shrink    a failing request made as small as it still fails
python -m fuzz (with tests/ on the path) runs it; `make fuzz` and `make fuzz-short` do that
"""
