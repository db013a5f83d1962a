"""The harness: real servers, a pgpool under test, a raw protocol client, the stock tools.

Only the standard library of Python 3 is used; nothing here knows which
implementation it is talking to, except `lib.subject`.
"""
