set -eu
cat >home.beancount <<LEDGER
option "title" "Home"
option "operating_currency" "EUR"
2025-01-01 open Assets:Bank EUR
2025-01-01 open Expenses:Food EUR
2025-01-01 open Income:Salary EUR
2025-02-01 * "Employer" "Salary"
  Assets:Bank  2000 EUR
  Income:Salary
2025-02-03 * "Market" "Bread"
  Expenses:Food  4 EUR
  Assets:Bank
LEDGER
sed 's/Home/Club/' home.beancount >club.beancount
sed 's/Home/Shop/' home.beancount >shop.beancount
exec fava --host 127.0.0.1 --port "$PORT" home.beancount club.beancount shop.beancount
