"""What the Python workloads share."""

import os

TYPES = """SELECT true AS bool, 1::int2 AS int2, 2::int4 AS int4, 3::int8 AS int8, 1.5::float4 AS float4, 2.25::float8 AS float8, 12.340::numeric AS num,
 'c'::char(3) AS ch, 'v'::varchar(5) AS vc, 'é'::text AS t, '\\xdead'::bytea AS by, '2024-02-29'::date AS d, '01:02:03'::time AS ti, '2024-01-02 03:04:05.6'::timestamp AS ts,
 '2024-01-02 03:04:05+00'::timestamptz AS tz, '1 day 2 h'::interval AS iv, '00000000-0000-0000-0000-000000000005'::uuid AS u, '{"a": 1}'::json AS j, '{"b": [2]}'::jsonb AS jb,
 '{1,2,NULL}'::int[] AS ia, ARRAY['x', NULL] AS ta, '10.0.0.1'::inet AS inet, NULL::int AS nothing"""


def place():
    return {name: os.environ["LOGIN_" + name.upper()] for name in ("host", "port", "user", "password", "sslmode")} | {"dbname": os.environ["LOGIN_DATABASE"]}


def section(name):
    print(f"== {name}", flush=True)


def say(*words):
    print(*(w if isinstance(w, str) else repr(w) for w in words), sep="|", flush=True)
