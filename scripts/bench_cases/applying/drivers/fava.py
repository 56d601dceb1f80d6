"""Looks at ledgers in Fava and adds to them, as its pages do."""

import sys

import requests

root = sys.argv[1]
session = requests.Session()
session.get(root + "/")
for ledger in ("home", "club", "shop"):
    for page in ("income_statement", "balance_sheet", "trial_balance", "journal", "holdings", "events", "statistics"):
        session.get(f"{root}/{ledger}/{page}/").raise_for_status()
    for account in ("Assets:Bank", "Expenses:Food", "Income:Salary"):
        session.get(f"{root}/{ledger}/account/{account}/").raise_for_status()
    for name in ("changed", "errors", "balance_sheet", "income_statement", "trial_balance", "ledger_data"):
        for _ in range(2):
            session.get(f"{root}/{ledger}/api/{name}").raise_for_status()
    session.get(f"{root}/{ledger}/api/payee_accounts", params={"payee": "Market"})
    session.get(f"{root}/{ledger}/api/query", params={"query_string": "select account"})
    for number in range(4):
        entry = {
            "t": "Transaction", "date": f"2025-03-0{number + 1}", "flag": "*", "payee": "Market", "narration": "Milk",
            "tags": [], "links": [], "meta": {},
            "postings": [{"account": "Expenses:Food", "amount": "2 EUR"}, {"account": "Assets:Bank", "amount": ""}],
        }  # fmt: skip
        session.put(f"{root}/{ledger}/api/add_entries", json={"entries": [entry]})
    session.get(f"{root}/static/app.js")
