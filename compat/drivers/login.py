"""psycopg 3."""

import os

import psycopg

place = {name: os.environ["LOGIN_" + name.upper()] for name in ("host", "port", "user", "password", "sslmode")}
if os.environ.get("LOGIN_ROOTCERT"):
    place["sslrootcert"] = os.environ["LOGIN_ROOTCERT"]
with psycopg.connect(dbname=os.environ["LOGIN_DATABASE"], connect_timeout=15, **place) as connection:
    for _ in range(2):
        row = connection.execute("SELECT current_user::text, %s::int + 1, %s::text || 'é'", (41, "caf"), prepare=True).fetchone()
    print(*row, "tls" if connection.pgconn.ssl_in_use else "plain", sep="|")
