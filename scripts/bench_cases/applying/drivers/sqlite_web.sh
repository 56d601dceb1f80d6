set -eu
python - <<'PYTHON'
import sqlite3

shop = sqlite3.connect("shop.db")
for table in "orders products invoices suppliers warehouses returns ratings coupons carriers payments".split():
    shop.execute(f"create table {table} (id integer primary key, title text)")
shop.commit()
PYTHON
exec sqlite_web -H 127.0.0.1 -p "$PORT" -x shop.db
