set -eu
python - <<'PYTHON'
import sqlite3

city = sqlite3.connect("city.db")
for table in "trees benches lamps roads".split():
    city.execute(f"create table {table} (id integer primary key, title text)")
    city.executemany(f"insert into {table} (title) values (?)", [(str(number),) for number in range(40)])
city.commit()
PYTHON
exec datasette serve city.db -h 127.0.0.1 -p "$PORT"
