"""libpq itself, by ctypes: what an application sees of a connection whose server goes away."""

import ctypes

_PQ = ctypes.CDLL("libpq.so.5")
for _name, _result, _arguments in (
    ("PQconnectdb", ctypes.c_void_p, [ctypes.c_char_p]), ("PQstatus", ctypes.c_int, [ctypes.c_void_p]), ("PQerrorMessage", ctypes.c_char_p, [ctypes.c_void_p]),
    ("PQreset", None, [ctypes.c_void_p]), ("PQfinish", None, [ctypes.c_void_p]), ("PQexec", ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p]),
    ("PQsendQuery", ctypes.c_int, [ctypes.c_void_p, ctypes.c_char_p]), ("PQsetSingleRowMode", ctypes.c_int, [ctypes.c_void_p]), ("PQgetResult", ctypes.c_void_p, [ctypes.c_void_p]),
    ("PQresultStatus", ctypes.c_int, [ctypes.c_void_p]), ("PQgetvalue", ctypes.c_char_p, [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]), ("PQntuples", ctypes.c_int, [ctypes.c_void_p]),
    ("PQresultErrorField", ctypes.c_char_p, [ctypes.c_void_p, ctypes.c_int]), ("PQclear", None, [ctypes.c_void_p]),
):
    getattr(_PQ, _name).restype, getattr(_PQ, _name).argtypes = _result, _arguments

_FAILED = 7
_SQLSTATE = ord("C")


class Failed(Exception):
    """A statement, or the connection with it, failed; `code` is None when no ErrorResponse came."""

    def __init__(self, message, code=None):
        super().__init__(f"{code}: {message.strip()}")
        self.code = code


class Connection:
    def __init__(self, port, *, host="127.0.0.1", user="app", database="app"):
        self._conn = _PQ.PQconnectdb(f"host={host} port={port} user={user} dbname={database} sslmode=disable gssencmode=disable connect_timeout=15".encode())
        if not self.alive:
            raise Failed(self._error())

    def _error(self):
        return _PQ.PQerrorMessage(self._conn).decode("utf-8", "replace")

    @property
    def alive(self):
        """Whether libpq thinks that the connection is good."""
        return _PQ.PQstatus(self._conn) == 0

    def _checked(self, result):
        """(status, first value) of a result."""
        status = _PQ.PQresultStatus(result)
        code = _PQ.PQresultErrorField(result, _SQLSTATE)
        value = _PQ.PQgetvalue(result, 0, 0).decode() if _PQ.PQntuples(result) else None
        _PQ.PQclear(result)
        if status == _FAILED or not result:
            raise Failed(self._error(), code.decode() if code else None)
        return value

    def value(self, sql):
        """First value of a statement that must succeed, else Failed."""
        return self._checked(_PQ.PQexec(self._conn, sql.encode()))

    def send(self, sql, by_rows=False):
        if not _PQ.PQsendQuery(self._conn, sql.encode()):
            raise Failed(self._error())
        if by_rows:
            _PQ.PQsetSingleRowMode(self._conn)

    def result(self):
        """First value of the next result; None when there is no more."""
        result = _PQ.PQgetResult(self._conn)
        return self._checked(result) if result else None

    def rest(self):
        """Reads all results; the first Failed is raised when they are through."""
        failed = None
        while True:
            result = _PQ.PQgetResult(self._conn)
            if not result:
                break
            try:
                self._checked(result)
            except Failed as error:
                failed = failed or error
        if failed:
            raise failed

    def reset(self):
        """What an application does after an error of the connection."""
        _PQ.PQreset(self._conn)
        if not self.alive:
            raise Failed(self._error())

    def close(self):
        if self._conn:
            _PQ.PQfinish(self._conn)
            self._conn = None
