"""The sensor's own rules, for what the core rules have no class for, and where their package is not installed.

Each looks for what makes a payload work, not for single characters: a quote that ends a string and goes on with SQL, a
tag that runs something, a command after a separator. Patterns are RE2's; case does not matter, a dot takes line ends.
"""

from typing import Final

from sensor.attacks.classes import AttackClass
from sensor.attacks.core_rules import Rule

_TAGS = (
    "script|svg|img|iframe|body|object|embed|video|audio|input|form|math|style|link|meta|base|details|marquee|a|x|"
    "isindex|table|div|bgsound|layer|frameset"
)
_EVENTS = "error|load|click|mouse\\w+|focus|blur|toggle|start|end|key\\w+|change|submit|resize|scroll|pointer\\w+"
_COMMANDS = (
    "cat|ls|id|whoami|uname|ping|nc|ncat|curl|wget|bash|sh|dir|type|net|ipconfig|ifconfig|sleep|echo|nslookup|"
    "python\\d?|perl|php|ruby|powershell|cmd|chmod|rm|netstat|ps|env|set|printenv|system|find|grep|systeminfo|ver|"
    "timeout|dig|tftp|ftp|reg|which|tasklist|iwr|iex|iwmi"
)
_FUNCTIONS = (
    "sleep|benchmark|pg_sleep|dbms_pipe\\.receive_message|extractvalue|updatexml|load_file|"
    "substring|substr|randomblob|iif"
)
_COMPARISONS = r"=|<|>|!=|like\b|rlike\b|regexp\b|is\b|between\b|in\s*\("

_PATTERNS: Final[tuple[tuple[AttackClass, tuple[str, ...]], ...]] = (
    (
        AttackClass.SQLI,
        (
            rf"""['"`)]\s*(?:\|\||&&|\b(?:or|and|xor|having|div)\b)\s*(?:not\s+)?[\w'"(.@-]+['")]*\s*(?:{_COMPARISONS}|\(|--|#|/\*|$)""",
            r"""['"`)]\s*(?:\bunion\b|\border\s+by\s+\d|\bgroup\s+by\b.*\bhaving\b|\blimit\s+\d|\bprocedure\s+analyse|\bwaitfor\s+delay|;\s*\w+\s)""",
            r"""\bunion(?:\s|\()+(?:all\s*|distinct\s*)?\(?\s*select\b""",
            r"""\bselect\b.{1,200}\bfrom\b\s*[\w(]""",
            rf"""\b(?:{_FUNCTIONS})\s*\(.*\)|\b(?:user|version|database)\s*\(\s*\)|\b(?:char|concat|ascii)\s*\(\s*(?:0x|\d|\w+\()""",
            r"""\b(?:or|and|having|where|xor)\b[\s(]+['"]?[\w-]+['"]?\s*(?:=|<|>|!=|between\b)\s*['"(]?[\w-]+""",
            r"""\b(?:or|and)\b[\s(]+['"][^'"]*['"]?\s*(?:=|like\b)\s*['"]""",
            r"""(?:['")\];]|\d\s)\s*--\s*(?:-\s*)?$|['")]\s*#\s*$|['"]\s*/\*""",
            r""";\s*(?:drop|insert|update|delete|shutdown|exec|select|declare|create|alter)\b""",
            r"""\border\s+by\s+\d+\s*(?:--|#|$)|\binformation_schema\b|\bxp_cmdshell\b|@@version\b|\binto\s+(?:out|dump)file\b""",
        ),
    ),
    (
        AttackClass.XSS,
        (
            rf"""<(?:{_TAGS})\b[^>]*(?:\bon\w+\s*=|javascript:\s*[^;\s"']|\bsrc\s*=\s*["']?(?:javascript|data|x\b))""",
            r"""</?script\b|<(?:iframe|object|embed|svg|math|meta|base|bgsound|layer|isindex|marquee)\b""",
            rf"""\bon(?:{_EVENTS})\s*=\s*["'`]?\s*\w*\s*[(`.\w]""",
            r"""\bjavascript\s*:\s*[^;\s"',}]{2}|\bexpression\s*\(|\balert\s*[(`]|\bconfirm\s*[(`]|\bprompt\s*[(`]|\bdocument\.(?:cookie|domain|write)\b""",
            r"""\bstring\.fromcharcode\b|\beval\s*\(|<img[^>]+src\s*=\s*["']?[^h/"'\s]""",
        ),
    ),
    (
        AttackClass.TRAVERSAL,
        (
            r"""\.\.[\\/]|[\\/]\.\.(?:[\\/]|$)|\.\.;/|\.{3,}[\\/]|^\.{4,}\w""",
            r"""^/?(?:etc|proc|windows|winnt)[\\/]|^/var/log/|\bboot\.ini\b|\bweb-inf\b|^(?:[a-z]:[\\/]|\\\\)\w|\x00""",
        ),
    ),
    (
        AttackClass.RCE,
        (
            rf"""(?:[;&|`\n]|\$\(|&&|\|\|)\s*(?:/?(?:usr/)?s?bin/)?(?:{_COMMANDS})(?:\s|$|[;|&`)])""",
            r"""^/?(?:usr/)?bin/(?:id|ls|cat|sh|bash|uname)\b|\$\((?:\w+|\{)|`[a-z/]+(?:\s[^`]*)?`|<!--#(?:exec|include|echo)""",
            r"""\$\{?ifs\b|/bin/(?:ba|da|z|k|c)?sh\b|\bcmd(?:\.exe)?\s*/c\b|\(\)\s*\{\s*:?;|<\?(?:php|=)""",
            r"""\b(?:java\.lang\.(?:runtime|processbuilder)|com\.opensymphony\.xwork2|ognl\.\w+|getruntime\s*\()""",
            r"""\bchild_process\b|\bprocess\.(?:mainmodule|binding|env)\b|\b(?:passthru|shell_exec|proc_open|popen)\s*\(""",
        ),
    ),
    (
        AttackClass.SSRF,
        (
            r"""(?:^|=|//|@)(?:169\.254\.169\.254|metadata\.google|127\.\d+\.\d+\.\d+|localhost(?::|/|$)|0x7f|2130706433|\[::)""",
            r"""^(?:gopher|dict|ldap|tftp|sftp|jar|netdoc|phar|expect)://|^file:/|^php://|^data:text/html""",
        ),
    ),
    (
        AttackClass.SSTI,
        (
            r"""\{\{[^}]*(?:\d\s*[-+*/]\s*['"]?\d|config|self\b|request\b|__|\||\(|\[)[^}]*\}\}""",
            r"""\$\{[^}]*(?:\d\s*[*+]\s*\d|\(|\bt\()[^}]*\}|<%=[^%]*%>|#\{[^}]*(?:\d\s*[*+]|\(|\.)[^}]*\}|\{%.*%\}|\{php\}""",
        ),
    ),
    (AttackClass.XXE, (r"""<!(?:entity|doctype|element|attlist)\b|<\?xml[^>]*>.*<!|\bxi:include\b""",)),
    (
        AttackClass.NOSQL,
        (
            r"""\[?\$(?:where|ne|gt|lt|gte|lte|regex|in|nin|exists|or|and|not|eq|elemmatch|expr)\b\]?(?:$|\s*[:=(])""",
            r"""\bthis\.\w+\s*(?:==|!=|\.match)|['"]\s*\|\|\s*['"]?\w*['"]?\s*==""",
        ),
    ),
    (
        AttackClass.LDAP,
        (r"""\(\s*[|&!]\s*\(\w|\*\)\s*\(|\)\s*\(\s*[|&!]\s*\(?|\(\w+=\*\)|\*\(\||\)\((?:cn|uid|mail|objectclass)=|\*\(\)\|""",),
    ),
    (AttackClass.LOG4SHELL, (r"""\$\{[^}]*(?:jndi|lower:|upper:|env:|sys:|::-|date:)""",)),
    (AttackClass.SPLITTING, (r"""[\r\n]\s*(?:set-cookie|location|content-(?:type|length)|http/1)[^\n]*:""",)),
)  # fmt: skip

OWN_RULES: Final = tuple(
    Rule(f"{kind.value}-{number}", kind, pattern, is_sure=False)
    for kind, patterns in _PATTERNS
    for number, pattern in enumerate(patterns, 1)
)
