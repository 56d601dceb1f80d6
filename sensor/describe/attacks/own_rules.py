"""The sensor's own attack rules, for what the core rules have no class for and for hosts without their package.

Each rule looks for what makes a payload work, not for single characters. Examples are a quote that ends a string and
goes on with SQL, a tag that runs something, and a command after a separator. Patterns are RE2's. Case does not matter,
and a dot matches line ends.

Commands begin with names of programs: POSIX, GNU and util-linux, package managers, interpreters, archivers, network
clients, and tools for containers and configuration. `PROGRAMS` and `WINDOWS_PROGRAMS` are never words of plain text.
`WORDS` are, so they match only before an argument of a command. Pure.
"""

import re
from typing import Final

from sensor.describe.attacks.classes import AttackClass, Part
from sensor.describe.attacks.matching import Rule

_PROGRAMS: Final = """
7z 7za 7zr aa-exec agetty ansible apt apt-cache apt-get aptitude arj ascii-xfr awk aws base32 base64 bash blkid
bpftrace bsdcat bsdiff bsdtar btrfs buildah bunzip2 busybox bzcat bzip2 capsh certbot chattr chcon chef chef-client
chef-shell chgrp chmod chown chpasswd chroot chsh cksum containerd containerd-ctr coredumpctl cpan cpio cpulimit
crictl crontab cscli csh csvtool ctr cupsfilter curl dconf ddrescue dhclient diff3 dig dmesg dmidecode dmsetup dnf
dos2unix dosbox dotnet dpkg dvips easy_install ebtables egrep env ethtool facter fdisk fgrep findmnt firewall-cmd
flock fping ftp fuser gawk gcloud gcore gdb genisoimage getcap getconf getent getfacl ghc gimp gpasswd gpg grc grep
groupadd groupdel groupmod gsutil gtester gunzip gzcat gzexe gzip hashcat hexdump hostid hostname hostnamectl hping3
htop httpie iconv ifconfig ifdown ifup insmod ioctl ionice ip6tables ipconfig iptables irb ispell jexec jjs journalctl
jq jrunscript k3s ksh ksshell kubeadm kubectl kubelet lastb lastcomm lastlog ld.so ldapsearch ldconfig ldd lft lftp
lldb loginctl logname logsave losetup lpr ls lsattr lsb_release lsblk lscpu lsmod lsof lspci lsusb ltrace luac
lwp-download lwp-request lynx lz lz4 lzcat lzma lzop mailx mawk md5sum memcached minikube mkdir mkfifo mkfs mknod
mkswap mktemp modinfo modprobe mongodump mongosh mosquitto mountpoint mpstat msfconsole msgattrib msgcat msgconv mtr
multitime mutt mv mycli mysqladmin mysqldump nasm nawk nc ncat netcat netplan netstat newgrp nft ngrep nmap nmcli
nohup npm nproc npx nroff nsenter nslookup ntpdate objdump openssl openvpn openvt ossec passwd patchelf pdflatex
pdftex perf perlbug pftp pgrep pico pidof pidstat ping ping6 pip3 pipx pkexec pkg pkill pmap poetry popd printenv
printf procmail psad psexec psftp psql ptx pushd pvscan pwd pwsh qemu rake rbash readelf readlink redis-cli renice
resolvectl restic rlogin rlwrap rm rmdir rmmod rpm rpmdb rpmquery rpmverify rsync rsyslogd rtorrent run-mailcap
run-parts runc runscript rustc rview rvim sash scanmem scp scrot sed sestatus setarch setenv setfacl setfattr setlock
setsid sftp sha1sum sha256sum sha512sum shuf skopeo slsh smbclient socat sqlite sqlite3 ssh ssh-agent ssh-copy-id
ssh-keygen ssh-keyscan sshfs sshpass start-stop-daemon stdbuf strace stty su sudo sudoedit svn swapoff swapon sysctl
systemctl systemd-resolve systemd-run tailf tar taskset tclsh tcpdump tcping tcsh telnet tftp tic timedatectl tmux
toybox tput traceroute traceroute6 tshark tty ttyd ulimit umount uname uncompress unexpand unlink unlzma unpigz unrar
unset unshare unxz unzip unzstd update-alternatives useradd userdel usermod uudecode uuencode valgrind vgcreate vigr
vim vimdiff vipw virsh visudo vmstat volatility w3m wget whereis whiptail whoami whois wireshark xargs xdg-open
xelatex xetex xmodmap xmore xpad xterm xxd xz xzcat yash zathura zcat zcmp zdiff zegrep zfgrep zgrep zipdetails zless
zmore zrun zsh zsoelim zstd zstdcat zstdgrep zstdless zypper
"""
_WORDS: Final = """
ab alias apk arch arp as ash aspell at basename batch bc bg break cancel cat cd chfn clang clear cobc column comm
command composer continue cowsay cp cron csplit cut dash dbus-send dd declare dialog diff dir docker du echo ed eject
emacs eval exec exit expand export expr fc fg figlet file find finger fmt fold free from g++ gcc gem git go groups
halt hash hd head helm help history host hydra id init install ip java jobs join julia kill killall last latex ld less
links ln local locate lock login look lp lua mail make man mesg mongo more mount mysql nano nginx nice nl nm node od
open paste pax pdb perl php pic pip podman pr ps puppet python raw rc read realpath reboot red route ruby salt sar
screen script seq service set shift shutdown sleep snap socket sort source split ss stat strings sum sync tac tail
talk tbl tee terraform test tex time timeout top touch tr trap tree troff truncate type ul uniq up uptime users
vagrant vault vi view w wall watch wc which who wish write yarn yelp yes yum zip
"""
# What comes with Windows and is no word otherwise; `net`, `sc`, `reg`, `type` are.
_WINDOWS: Final = """
adfind appcmd atbroker attrib auditpol bcdboot bcdedit bitsadmin bootcfg bootrec cacls certreq certutil chkdsk cipher
cmdkey cmstp csvde cscript diantz diskpart diskshadow dnscmd driverquery dsquery esentutl eventcreate extrac32
fltmc forfiles fsutil ftype getmac gpresult gpupdate hh icacls ieexec installutil ipconfig klist ldifde logman
makecab mavinject mofcomp mshta msiexec mstsc nbtstat netdom netsh nltest ntdsutil odbcconf pnputil powershell pwsh
quser qwinsta rasdial regasm regedit regini regsvcs regsvr32 robocopy rundll32 runas schtasks sdbinst secedit setx
systeminfo takeown taskkill tasklist tracert tscon typeperf vssadmin w32tm wbadmin wecutil wevtutil winrm winrs wmic
wscript wsl wusa xcopy xwizard
"""
# What tools of one family are called by: `ansible-vault`, `chef-run`, `python3.12`.
_FAMILIES: Final = (
    r"(?:ansible|chef|kubectl|systemd)(?:-[a-z]+)*|(?:docker|git|npm|puppet|salt)-[a-z]+|"
    r"(?:php|pip|python|perl|ruby|lua)[\d.]*[-\d][\w.-]*"
)


def _join(names: str) -> str:
    return "|".join(re.escape(name) for name in names.split())


PROGRAMS: Final = f"{_FAMILIES}|{_join(_PROGRAMS)}"
WORDS: Final = _join(_WORDS)
LAUNCHERS: Final = (
    "sudo|doas|time|nohup|exec|strace|ltrace|env|nice|setsid|stdbuf|watch|xargs|busybox|command|builtin|eval|"
    "timeout\\s+\\d+"
)
WINDOWS_PROGRAMS: Final = _join(_WINDOWS)


_TAGS = (
    "script|svg|img|iframe|body|object|embed|video|audio|input|form|math|style|link|meta|base|details|marquee|a|x|"
    "isindex|table|div|bgsound|layer|frameset"
)
_EVENTS = "error|load|click|mouse\\w+|focus|blur|toggle|start|end|key\\w+|change|submit|resize|scroll|pointer\\w+"
_COMMANDS = (
    "cat|ls|id|whoami|uname|ping|nc|ncat|curl|wget|sh|dir|type|net|ipconfig|ifconfig|sleep|echo|nslookup|cmd|chmod|"
    "rm|netstat|ps|env|set|printenv|system|find|grep|systeminfo|ver|timeout|dig|tftp|ftp|reg|which|tasklist|iwr|iex|iwmi"
)
# Names that stand in titles, so that they count with an argument or at the end only.
_INTERPRETERS = "bash|python\\d?|perl|php|ruby|powershell"
_TOOLS = (
    "sqlmap|nikto|nmap|nuclei|acunetix|netsparker|dirbuster|gobuster|feroxbuster|wpscan|masscan|zgrab|wfuzz|ffuf|havij|"
    "burp ?(?:suite|collaborator)|openvas|arachni|w3af|jaeles|commix|dirsearch|whatweb|joomscan|xsser"
)
_FUNCTIONS = (
    "sleep|benchmark|pg_sleep|dbms_pipe\\.receive_message|extractvalue|updatexml|load_file|"
    "substring|substr|randomblob|iif|lo_(?:get|put|import|export|from_bytea)"
)
_COMPARISONS = r"=|<|>|!=|like\b|rlike\b|regexp\b|is\b|between\b|in\s*\("
_OPERATORS = (
    r"<=>|<<|>>|<>|!=|:=|[=<>^|&*/%+-]|\b(?:not\s+)?(?:like|ilike|rlike|regexp|mod|div|is|in|between|glob|match|collate|"
    r"similar\s+to|sounds\s+like|overlaps|xor)\b"
)
# With which an ORM compares a column, of a related table here: a caller who names one asks for what nobody offered.
_LOOKUPS = (
    "i?(?:exact|contains|startswith|endswith|regex)|[gl]te?|range|isnull|has_(?:any_)?keys?|contained_by|trigram_similar|"
    "search"
)
_CASTS = (
    "int\\d?|integer|bigint|smallint|text|varchar|char|numeric|float\\d?|double|date|time\\w*|bool\\w*|json\\w*|"
    "regclass|oid"
)
# Names by which a host or its platform calls itself, and services that answer with whatever address a name holds.
_INNER_HOSTS = (
    r"localhost(?:\d|\d?\.localdomain\d?)|ipv?6-(?:localhost|loopback)|(?:[\w-]+\.)*(?:docker|containers|orb|minikube)\.internal|"
    r"(?:[\w-]+\.)+svc(?:\.cluster\.local)?|kubernetes\.default|metadata\.(?:google\.internal|goog|tencentyun\.com)|rancher-metadata|instance-data|100\.100\.100\.200|192\.0\.0\.192|"
    r"(?:[\w-]+\.)*(?:lvh\.me|localtest\.me|vcap\.me|lacolhost\.com|nip\.io|sslip\.io|xip\.io|1u\.ms|rbndr\.us)"
)
_COLLECTORS = (
    r"(?:[\w-]+\.)+(?:oastify\.com|burpcollaborator\.net|interact\.sh|oast\.\w+|dnslog\.cn|requestbin\.net|"
    r"canarytokens\.com)"
)
_UPLOADS = (
    "php(?:\\d*|t)|phtml|pht|phar|phps|inc|jspx?|jspf|jsw|jsv|war|aspx?|ashx|asmx|asa|cer|cfml?|cgi|pl|htaccess|shtml"
)
# What servers keep in /etc.
_ETC = (
    "passwd|g?shadow|group|hosts?\\b|hostname|issue|motd|fstab|mtab|crontab|cron\\.|profile|bash|sudoers|resolv|network|services|"
    "[\\w-]*release|ss[hl]/|pam\\.d|init|rc\\d?\\.|sysconfig|default/|security|nginx|apache|httpd|lighttpd|php|mysql|my\\.cnf|"
    "postgresql|redis|samba|snmp|[\\w-]*ftpd|logrotate|r?syslog|kubernetes|docker|openvpn|ldap|environment|aliases|exports|"
    "modules|mail|postfix|exim|[\\w./-]+\\.(?:conf|cfg|cnf|ini|pem|key)\\b|[?*\\[]"
)
_KEPT = (
    "bak|backup|old|orig|save|swp|sql|sqlite\\d?|mdb|dbf|db|rdb|dump|conf|config|cfg|ini|inc|pem|pfx|p12|jks|kdbx|env|"
    "htaccess|htpasswd|licx|vbs?proj|csproj|webinfo|asa|axd|ds_store|tfstate|tfvars|ovpn"
)

_PATTERNS: Final[tuple[tuple[AttackClass, tuple[str, ...]], ...]] = (
    (
        AttackClass.SQLI,
        (
            rf"""['"`)]\s*(?:\|\||&&|\b(?:or|and|xor|having|div)\b)\s*(?:not\s+)?[\w'"(.@-]+['")]*\s*(?:{_COMPARISONS}|\(|--|#|/\*|$)""",
            r"""['"`)]\s*(?:\bunion\W+(?:all\W+|distinct\W+)?(?:select|values|table)\b|\border\s+by\s+\d|\bgroup\s+by\b.*\bhaving\b|\blimit\s+\d|\bprocedure\s+analyse|\bwaitfor\s+delay|;\s*(?:select|insert|update|delete|drop|alter|create|exec|declare|grant|shutdown|waitfor)\s)|['"`]\s*;\s*(?:set|call|copy|begin|if)\s""",
            r"""\bunion(?:\s|\()+(?:all\s*|distinct\s*)?\(?\s*select\b""",
            r"""\bselect\b.{1,200}\bfrom\b\s*[\w(]""",
            rf"""\b(?:{_FUNCTIONS})\s*\(.*\)|\b(?:user|version|database)\s*\(\s*\)|\b(?:char|concat|ascii)\s*\(\s*(?:0x|\d|\w+\()""",
            r"""\b(?:or|and|having|where|xor)\b[\s(]+['"]?[\w-]+['"]?\s*(?:=|<|>|!=|between\b)\s*['"(]?[\w-]+""",
            r"""\b(?:or|and)\b[\s(]+['"][^'"]*['"]?\s*(?:=|like\b)\s*['"]""",
            r"""(?:['")\];]|\d[ \t])[ \t]*--[ \t]*(?:-[ \t]*)?$|['")]\s*#\s*$|['"]\s*/\*""",
            r""";\s*(?:drop|insert|update|delete|shutdown|exec|select|declare|create|alter)\b""",
            rf"""['"`]\s*(?:{_OPERATORS}).{{0,80}}(?:--|/\*|#\s*$)|['"]\s*\?\s*--""",
            r"""^[^'"`\s]+['"`]\s*;\s*$|^[^'"]{0,40}(?:['"]\.['"]?){4}[^'"]{0,40}$|\\['"`]\s*(?:and|or)(?:\b|[`'"])""",
            r"""^["'`]+\s*(?:(?:[#%&()*+,./:;<=>?@\[\\\]^{|}~-]|!=)[!#%&()*+,./:;<=>?@\[\\\]^{|}~-]{0,3}\s*\w{0,4}\d|\d+\s*[*/:<>=+-]\s*\d)[^"'`]{0,24}$|^(?:"'|'")$|^(?:['"]{2}\s*,\s*){3}""",
            r"""/\*\s*[!+]|\w/\*.{0,80}?\*/\w""",
            r"""^\s*(?:and|or)\s+(?:'\d+'|"\d+")|^['"`]\s*(?:select|x?or|and)\s+\w[^'"`]*$|^['"`]\s*[<>=]+\s*\d+\)?\s*(?:and|or)\b""",
            r"""\b2\.2250738585072\d+e-308\b|\bor\s*--(?:\s|$)|^\s*\)\s*like\s*\(|['"]\s*or\s*\?\s*--|['"]\s*\?\s*#""",
            r"""^\s*['"]?\d+['"]?\s*(?:!=|<=>|<>|\bis\s+not\b|\bnot\s+(?:like|regexp|rlike|in)\b)\s*['"(]?\d+['")]?\s*$""",
            r"""['"`]\s*\*.{1,80}\b(?:or|xor|and|div|like|between|id)\b\W*['"`]\d""",
            rf"""^\w+__\w+__(?:{_LOOKUPS})$""",
            r"""^(?:ms(?:db|ys\w+)|mysql\.\w+|northwind|tempdb|master\.\.\w+|(?:information|performance)_schema|pg_(?:catalog|toast)|sqlite_(?:master|temp_master)|sys(?:objects|columns|users|databases))$""",
            rf"""(?:\w|\))::(?:{_CASTS})\b|\bdiv\s*\(\s*\d|\boverlay\s*\([^)]*\bplacing\b""",
            r"""\b(?:or|and|xor|having)\b[\s(]*(?:not\b[\s(]*)?['"(]*\d+['")]*\s*(?:=|<|>|<>|!=|\blike\b)\s*['"(]*\d|['"]\s*\)*\s*(?:\b(?:or|and|xor)\b|\|\||&&)\s*\(*\s*['"]\w*['"]\s*(?:=|<|>|\blike\b)|\binto\s+(?:out|dump)file\b\s*\(?\s*['"]|\bunion\b(?:\W|\bdistinct\b|\ball\b){1,40}\bselect\b""",
            r"""\border\s+by\s+\d+\s*(?:--|#|$)|\binformation_schema\b|\bxp_cmdshell\b|\bexec\s+(?:master\b|[xs]p_\w)|@@version\b|\binto\s+(?:out|dump)file\b""",
        ),
    ),
    (
        AttackClass.XSS,
        (
            rf"""<(?:{_TAGS})\b[^>]*(?:\bon\w+\s*=|javascript:\s*[^;\s"']|\bsrc\s*=\s*["']?(?:javascript|data|x\b))""",
            r"""</?script\b|<(?:iframe|object|embed|svg|math|meta|base|bgsound|layer|isindex|marquee)\b""",
            rf"""\bon(?:{_EVENTS})\s*=\s*["'`]?\s*\w*\s*[(`.\w]""",
            r"""\bjavascript\s*:\s*(?:[^\w\s;"',}]|\w[\w.$]*(?:[\[`=;?]|\s*\.\s*\w)|\s*(?:void|print)\b)|\bexpression\s*\(|\balert\s*[(`]|\bconfirm\s*[(`]|\bprompt\s*[(`]|\bdocument\.(?:cookie|domain|write)\b""",
            r"""\b(?:alert|confirm|prompt|eval|print)\b\s*(?:(?:\?\.|\.)\s*(?:call|apply|bind)\s*)?(?:/\*.{0,40}\*/|//[^\n]{0,40}\n|\?\.)?\s*`|\b(?:alert|confirm|prompt|eval)\s*(?:\?\.|\.)\s*(?:call|apply|bind|constructor|name|valueof)\b|\(\s*(?:alert|confirm|prompt|eval)\s*\)\s*[(`]|\b(?:alert|confirm|prompt|eval)\s*\]?\s*\?\.\s*[(`\[]""",
            r"""\b(?:alert|confirm|prompt|eval)\s*(?:/\*.{0,40}?\*/|//[^\n]{0,40}\n)\s*\(|\ba\s{1,3}l\s{1,3}e\s{1,3}r\s{1,3}t\b|\[\s*['"`/]?(?:alert|confirm|prompt|eval)['"`/]?\s*\]|[=:]\s*(?:alert|confirm|prompt|eval)\s*[,;)&}\]|](?:\s*\w*\s*[(`]|\s*throw\b)""",
            r"""\b(?:self|window|top|parent|frames|this|globalthis|document)\s*\[\s*(?:['"`/]\s*\w{0,12}['"`/]|\w+\s*[+(]|/|\\)|\.\s*(?:sort|map|find|filter|some|every|foreach|reduce|from|of|constructor|call|apply)\s*`|\.\s*(?:sort|map|find|filter|some|every|foreach|from|reduce|with|findindex|flatmap)\s*\(\s*(?:\d+\s*,\s*)?(?:alert|confirm|prompt|eval|print)\s*\)""",
            r"""\bonerror\s*[=\]]|\bthrow(?:\s*onerror\b|\s*\{|\s+/|/\w*/\s*[.,;)])|\bset(?:timeout|interval)\s*(?:\(\s*['"`\w]|`)|\bimport\s*\(\s*['"`]|\bnew\s+xmlhttprequest\b|\bfetch\s*\(\s*['"`]|\blocation(?:\.\w+)?\s*=\s*['"`]?\s*(?:javascript|data|name|https?:|//)|\.\s*(?:inner|outer)html\s*=|\breturn\s+this\s*;""",
            r"""\bj\s*a\s+v\s*a\s*s\s*c\s*r\s*i\s*p\s*t\s*:|\bv\s*b\s*s\s+c\s*r\s*i\s*p\s*t\s*:|\bjavascript\s*:\s*(?:[\w.$]+\s?\(|\s*(?:alert|confirm|prompt|eval)\b)|\b(?:alert|confirm|prompt|eval)\s*(?:\(\s*(?:\d+|document\.\w+|['"/`]?xss\w*['"/`]?|string\.\w+\([^)]*\))\s*\)|`\w*`)""",
            r"""\bstring\.fromcharcode\b|\beval\s*\(|\burl\s*\(\s*javascript|\+adw-|<!--|^\s*--!?>|<img[^>]+src\s*=\s*["']?[^h/"'\s]""",
        ),
    ),
    (
        AttackClass.TRAVERSAL,
        (
            r"""\.\.[\\/]|[\\/]\.\.(?:[\\/]|$)|(?:\.\.2f){2}|(?:\.\.5c){2}|\.\.;/|\.{3,}[\\/]|^\.{4,}\w""",
            rf"""^/?(?:etc[\\/](?:{_ETC})|proc[\\/]|winnt[\\/])|^/var/log/|\bboot\.ini\b|\bweb-inf\b|^[a-z]:[\\/](?:windows(?:$|[\\/](?:$|[\w-]+\.(?:ini|log|inf|xml|sav)|[a-rt-z]|system32[\\/](?:$|[\w-]+[\\/]|[\w-]+\.(?:txt|rtf|inf|xml|ini|log|dat|sav|evtx?)))|[^\\/])|winnt|boot|inetpub|users|program|xampp|wamp|etc|[\w.-]+$)|^\\\\\w|\x00""",
            r"""(?:^|[\s"'=(,>|;/])\\\\(?:[\w:.-]+(?:@\w+)?\\[\w$.-]+|[?.]\\)|[\\/][a-z]\$[\\/]|^(?:smb|unc|webdavs?)://|^//(?:\d{1,3}\.){3}\d{1,3}/""",
            r"""(?:^|/)(?:proc|sys)/(?:self|\d+|class|kernel|net|interrupts|cpuinfo|meminfo|version|mounts|environ|cmdline)\b""",
        ),
    ),
    (
        AttackClass.RCE,
        (
            rf"""(?:[;&|`\n]|\$\(|&&|\|\|)\s*(?:/?(?:usr/)?s?bin/)?(?:(?:{_COMMANDS})(?:\s|$|[;|&`)])|(?:{_INTERPRETERS})(?:\s+(?:-\w|[/~.$'"]|\w+\.\w)|\s*$|[;|&`)]))""",
            rf"""`\s*(?:{_COMMANDS}|{_INTERPRETERS}|{PROGRAMS})(?:\s[^`]*)?`|^\s*(?:cat|ls|head|tail|cp|mv|find|less|more|rm|dd|tac|cut)\s+(?:-\w+\s+)*[/~.]{{1,2}}\w""",
            rf"""^/?(?:usr/)?bin/(?:id|ls|cat|sh|bash|uname)\b|\$\(\s*(?:{_COMMANDS}|{PROGRAMS}|{WORDS})(?:\s|\)|$)|\$\(\s*[</({{]|^`[a-z/]+(?:\s[^`\n]*)?`$""",
            rf"""^\s*(?:(?:{LAUNCHERS})\s+)*(?:{PROGRAMS})\s+(?:--?\w|[/~]\w|[|<>]|\w+\.(?:ya?ml|rb|sh|py|pl)\b)""",
            rf"""^\s*(?:{LAUNCHERS})\s+(?:-\w+\s+)?(?:{PROGRAMS}|cat|id|find)(?:\s|$)""",
            rf"""(?:[;|`]|&&|\$\()\s*(?:{WORDS})\s+(?:--?\w|[/~.$]\w|\d+\s*$)""",
            r"""(?:^|[;&|(`=])\s*(?:ansible|chef|kubectl|docker|puppet|terraform|cscli)(?:-[a-z]+|\s+(?:exec|run|dump|get|apply|report|alerts|all|list|ps|cp))\b""",
            r"""^(?:visudo|whoami|ifconfig|chef-shell|ansible-console)$|^java\.[\w.]*(?:runtime|processbuilder)""",
            r"""^\s*(?:visudo|whoami|[;&|]\s*who|sudo\s+\S+|set\s+[-+]o\s+\w+)\s*$|^(?:whoami|uname|id)\s*;""",
            r"""(?:^|[;&|])\s*alias\s+(?:[-+]\w+\+?\s+)?['"]?[\w.-]+['"]?\s*=|\bexec\s+\d+<>|/dev/(?:tcp|udp)/""",
            r"""/\w*\?{2,}|/\?+\w*/|/\w+[?*]\w*/\w+[?*]\w|/\w*\[[a-z/?-]*[a-z?][a-z/?-]*\]+\w*(?:/|\s|$)|/\w+[?*]\w*/[?*]+\w|\w\$\(\)|\w\$[@*!?]\w|\w\$\$\w|\w\$_\w.{0,80}?\w\$_\w|\w``[\w\s]|\{\w*\$\w+\}""",
            rf"""[;&|`\n]\s*(?:{PROGRAMS}|{WORDS})\s+(?:--?\w|[/~$<>])|[;&|`]\s*(?-i:{PROGRAMS})\s*(?:$|[;|&)'"`]|\s\w)|;.{{0,40}}\bwhoami\b|\{{,?(?:{_COMMANDS}|{PROGRAMS})(?:,[^}}\s]*)+\}}|\{{,\w|\{{\w+,[-/]\w""",
            r"""^~[-+]\d*$|^!-\d|\w<<<\s*['"\w]|(?:&&|[;|])\s*\$(?:\w+(?:$|[^\w=])|\{)|^\s*(?:p?kill|killall)\s+-\w|^\\(?:ls|id|cat|who|ps|rm)(?:\s|$)|\b\w+\{[a-z]*,[a-z]+\}[a-z]|(?:""\w){3}|(?:''\w){3}|^\s*if\s+(?:/i\s+)?(?:not\s+)?(?:exist|defined|errorlevel)\s+\S""",
            r"""^\s*\w+=['"]?\w{1,8}['"]?;\s*\w*\$\w""",
            rf"""(?:^|[&|;\n])\s*(?:{WINDOWS_PROGRAMS})(?:\.exe)?(?:\s+[-/%<>|\w]|\s*/\w)""",
            r"""^\$\[\s*\]$|\$\[\s*\d+\s*[-+*/]\s*\d|[<>]\(\s*[a-z/][^)]{0,80}\)|\$\(\(.+\)\)|\$\{\w*[:/#%^,@!][^}]*\}|;(?:\s|\\n)*\.\s*(?:archive|backup|clone|databases|dump|excel|import|load|once|output|read|restore|save|schema|sh(?:ell)?|system|tables?)\b""",
            r"""\$\{?ifs\b|/bin/(?:ba|da|z|k|c)?sh\b|\bcmd(?:\.exe)?\s*/c\b|\(\)\s*\{\s*:?;|<\?(?:\s*php\s|\s*(?:echo|print|eval|system|include|require)\b|\s+(?:\w+\s*\(|\$)|=\s*[\w$"'`(])|<\?xml\s*:|\[/?php\]|<\?\s*$""",
            r"""^\s*(?:[(\["']|define\s*\(|\$\w+\s*[=(]).{0,120}[)\]\x27"}]\s*(?:/\*.*\*/\s*)?\(\s*['"]?\w[\w\x20]*['"]?\s*\)\s*;""",
            r"""\bsodium_(?:crypto|bin2|hex2|mem|increment|pad|unpad|compare|base64)\w*\s*\(|\b(?:ldap|odbc|tidy|zend|pcntl|posix|mysqli?|pg|oci|mssql|ftp|imap|snmp|ssh2|socket|stream|curl|apcu?)_\w+\s*\(""",
            r"""^ssh2\.\w+://|^(?:zlib|glob|phar|ssh2|rar|ogg|expect|zip|compress\.\w+)://""",
            r"""\b(?:java\.lang\.(?:runtime|processbuilder)|com\.opensymphony\.xwork2|ognl\.\w+|getruntime\s*\()""",
            r"""\bjava\.(?:lang|io|util|net|beans|rmi)\.\w+|\bjavax\.script\.|\bro0abq|\bkztaau|\bcs7qaf""",
            r"""\bchild_process\b|\bprocess\.(?:mainmodule|binding|env)\b|\bprocess\s*\[\s*[\w.'"]|\b(?:passthru|shell_exec|proc_open|popen)\s*\(""",
            r"""\bconsole\s*\[\s*['"]|\brequire\s*\[\s*\w+\.|\bconsole\.\w+(?:\.(?:call|apply))?\s*\(|_\$\$nd_func\$\$_|\bfunction\s*\([^)]*\)\s*\{|\bnew\s+function\s*\(""",
            r"""\bwhile\s*\(\s*(?:[+-]|!\s*(?:false|null|nan|undefined|[^\w\s]|\d)|\(|infinity\b|\d|true|this\b|new\s|string\b|number\b|\[|\{|'|"|`)[^)]{0,40}\)\s*(?:[;){]|$)""",
            r"""\$\w*:(?:__proto__|constructor|prototype|module)\b|__proto__|\bconstructor\s*\]?\s*(?:\.|\[['"]?)\s*prototype\b""",
            r"""@\{\s*\[|\bcore::\w+""",
            r"""[;&|]\s*(?:/(?:usr/)?bin/)?(?:cat|ls|id|whoami|uname|wget|curl|nc|ncat|ping|sleep|bash|sh|rm|nslookup|ifconfig|netstat)\s*(?:[;&|]|$|\s[-/$~]|\s\d+(?:\.\d|\s*[;&|]|$)|\s(?:https?://|\w+\.\w))""",
            r"""^\s*net\s+(?:user|localgroup|group|share|use|view)\b[^\n]{0,80}[/\\]|^\s*reg\s+(?:add|query|delete|save)\s+["']?hk|^\s*(?:type|dir|copy|more|del)\s+(?:[a-z]:\\|%\w+%)|^\s*(?:curl|wget)\s+(?:-\S+\s+)*(?:https?|ftp)://|^\s*perl\s+-e\b|[;&|]\s*sysinfo\b""",
            r"""<!--\s*#\s*(?:exec|include|echo|set|config|fsize|flastmod|printenv|if)\b""",
        ),
    ),
    (
        AttackClass.SSRF,
        (
            r"""(?:^|=|//|@)(?:169\.254\.169\.254|metadata\.google|127\.\d+\.\d+\.\d+|localhost[:/]|0+\.0+\.0+\.0+|0+177\.|0x7f|2130706433|\[::)""",
            r"""^(?:gopher|dict|ldap|tftp|sftp|jar|netdoc|phar|expect)://|^file:[/$\\%]|^(?:/{3,}|/\\+|\\\\?/)[\w-]+\.[\w.-]+|^php://|^data:(?://|text/html)""",
            rf"""(?:^|//|@)(?:{_INNER_HOSTS})(?:[:/?#]|$)|(?:^|//|@|\.)(?:{_COLLECTORS})\b""",
            r"""^(?:https?|ftps?|wss?)://(?:\d{8,10}|0x[0-9a-f]{8}|0\d+(?:\.\d+){1,3}|\[[0-9a-f:.]+\])(?:[:/?#]|$)""",
            r"""^(?:https?|ftps?)://[0-9a-f]{1,4}(?::[0-9a-f]{0,4}){3,}/|\bftps?://\d{1,3}(?:\.\d{1,3}){3}\b""",
        ),
    ),
    (
        AttackClass.SSTI,
        (
            r"""\{\{[^}]*(?:\d\s*[-+*/]\s*['"]?\d|config|self\b|request\b|__|\||\(|\[)[^}]*\}\}""",
            r"""\$\{[^}]*(?:\d\s*[*+]\s*\d|\(|\bt\()[^}]*\}|<%=\s*(?:\w*[^\w\s%]|\w+\s+\w|\w+\s*[-+*/]\s*\w)[^%]*%>|<%\s*(?:if|for|while|import|end|unless|@)\b[^%]*%>|#\{[^}]*(?:\d\s*[*+]|\()[^}]*\}|\{%.*%\}|\{/?php\}|[*@~]\{\s*['"\w(]+\s*[-+*/.]\s*[\w'"]|@\(\s*\d+\s*[-+*/]\s*\d+\s*\)|\{\$smarty\b|\{\{\s*\w+\s*\}\}.{0,4}\{\{""",r"""\{\{\s*['"\[][^}]*\}\}""",
        ),
    ),
    (AttackClass.XXE, (
            r"""<!(?:entity|element|attlist)\b|<!doctype\s+(?:[^>]*(?:\[|\bsystem\b)|[^h>\s][^>\s]*\s+public\b|%)|<\?xml[^>]*>.*<!|\bxi:include\b""",
            rf"""<(?:\w+:)?(?:include|import|redefine|override)\b[^>]*\b(?:schemalocation|href)\s*=\s*["']?(?:https?|ftp|file|//|\\\\|php|jar|netdoc|\.\.)|\bnonamespaceschemalocation\s*=\s*["']?\s*(?:https?|ftp|file|//|\\\\|php|jar)|\bschemalocation\s*=\s*["'][^"']*\b(?:file|ftp|php|jar|gopher|https?://(?:[\d\[]|{_INNER_HOSTS}|{_COLLECTORS}))|<\?xml-stylesheet\b[^>]*href\s*=\s*["']?(?:https?|ftp|file|//|javascript)|\bdocument\s*\(\s*["'](?:https?|file|ftp|/)""",
    )),
    (
        AttackClass.NOSQL,
        (
            r"""\[?\$(?:where|ne|gt|lt|gte|lte|regex|in|nin|exists|or|and|not|eq|elemmatch|expr)\b["'\]]?(?:$|\s*[:=(])""",
            r"""^"\s*[:,]\s*["\[{]""",
            r"""['"]\s*;\s*return\b|^\w*;\s*return\s+\w|[,{]\s*\$comment\b|^\s*\|\|\s*\d+\s*==?=?\s*\d""",
            r"""\bthis\.\w+\s*(?:==|!=|\.match)|['"]\s*\|\|\s*['"]?\w*['"]?\s*==""",
        ),
    ),
    (
        AttackClass.LDAP,
        (r"""\(\s*[|&!]\s*\(\w|\*\)\s*\(|\)\s*\(\s*[|&!]\s*\(?|\(\w+=\*\)|\*\(\||\)\((?:cn|uid|mail|objectclass)=|\*\(\)\|""",
            r"""[(\w]:(?:dn:)?(?:\d+(?:\.\d+){2,}|\w*match|dn)?:=|\(\s*\w[\w;-]*\s*(?:~=|>=|<=)[^()]*\)|\)\s*\(\s*\w[\w;-]*\s*(?:[~<>:]=|=\s*(?:[*)]|$))|\*\)+\s*\(+\s*[|&!]|^\*\s*\(+\s*[|&!]|\*\)+\s*(?:%00|\x00)|\)\)\s*\(\s*[|&!]""",
            r"""['"]\s*\]?\s*(?:or|and|\|)\s+(?:[\w-]+\(\s*[^()]*\)|//\*?|\w+\[)\s*[=<>!\[|]|\b(?:or|and)\s+(?:name|local-name|position|count|string-length|substring|starts-with|contains|text)\s*\(|\]\s*\|\s*//|/child::|/parent::|/descendant::|/following-sibling::|//\*\[""",
        ),
    ),
    (AttackClass.LOG4SHELL, (r"""\$\{[^}]*(?:jndi|lower:|upper:|env:|sys:|::-|date:)""",)),
    (
        AttackClass.SPLITTING,
        (
            r"""[\r\n]\s*(?:set-cookie|location|content-(?:type|length)|http/1)[^\n]*:""",
            r"""[\r\n]\s*(?:[a-z]{1,4}\d{1,5}\s+(?:append|authenticate|capability|copy|create|delete|examine|expunge|fetch|list|login|lsub|rename|search|select|status|store|uid)\b|rcpt\s+to:|mail\s+from:|(?:apop|ehlo|helo|vrfy|expn|auth)\s+\S|(?:retr|dele|list|uidl|top)\s+\d)""",
            r"""^[^\r\n]{0,200}[\r\n]+(?:b?cc|reply-to)\s*:\s*\S+@|\r\n\.\r\n""",
            r"""[\r\n]\s*\w{1,6}\s+(?:uid\s+)?(?:store|fetch|copy)\s+[\d:*]+\s+[-+(\w]""",
            r"""[\r\n]\s*(?-i:HELP|DATA|QUIT|RSET|NOOP|STAT|CAPA|EHLO|HELO|STARTTLS)(?:\s+[A-Z]\w*)?\s*$""",
        ),
    ),
)  # fmt: skip

# Of values that stand at one place.
_PLACED: Final[tuple[tuple[Part, AttackClass, str], ...]] = (
    (
        Part.FILE,
        AttackClass.RCE,
        rf"""\.\s*(?:{_UPLOADS})\.*\s*$|\.(?:{_UPLOADS})\.\w{{1,5}}$|(?:^|[\\/])sess_[\w,-]{{10,}}$""",
    ),
    (Part.FILE, AttackClass.TRAVERSAL, r"""[\\/]\.\.|\.\.[\\/]|["';\x00-\x1f]|^=|=$|\.\w{0,3}(?:\\\w{1,2})+$"""),
    (
        Part.PATH,
        AttackClass.PROBING,
        r"""/\.(?:git|svn|hg|env|aws|ssh|docker|kube|ds_store|vscode|idea|cursor\w*|npmrc|netrc|htpasswd)\b""",
    ),
    (Part.PATH, AttackClass.PROBING, r"""/\.\w+(?:rc|ignore|config|history|profile|log|ini|ya?ml|toml|keys?)$"""),
    (Part.PATH, AttackClass.PROBING, rf"""/[^/]*\.(?:{_KEPT})(?:~|$)|~$|/(?:errors?|debug)[._]log\b"""),
    (
        Part.PATH,
        AttackClass.PROBING,
        r"""/(?:back-?ups?|dump|db|database|www|wwwroot|htdocs|public_html|site|sql|old|archive)\d*\.(?:zip|t?gz|tar(?:\.\w+)?|rar|7z|bz2)$|/(?:c99|r57|wso|b374k|webshell|shell|cmd|eval-stdin|alfa|adminer)[\w-]*\.(?:php\d?|aspx?|jspx?)$|\.(?:php\d?|phtml|aspx?|jspx?)(?:[;#\x00-\x1f]|[^\x00-\x7f])+\.\w{2,4}$""",
    ),
    (Part.PATH, AttackClass.PROBING, r"""\.(?:sql|dump|bak|db)\.(?:zip|t?gz|bz2|xz|7z|tar|rar|zst)$|^/@(?:id|fs)/"""),
    (
        Part.PATH,
        AttackClass.SSRF,
        rf"""/(?:gopher|file|dict|tftp|(?:https?|ftp):/+(?:[\d\[]|{_INNER_HOSTS}|{_COLLECTORS}))(?::|%3a|/|$)""",
    ),
    (Part.PATH, AttackClass.SPLITTING, r"""[\x01-\x1f\x7f]"""),
    (Part.AGENT, AttackClass.SPLITTING, r"""[\x01-\x08\x0e-\x1f\x7f]"""),
    (Part.QUERY_NAME, AttackClass.SPLITTING, r"""[\x01-\x1f\x7f]"""),
    *((part, AttackClass.TRAVERSAL, r"""^/?(?:etc|windows)[\\/]""") for part in (Part.TEXT, Part.QUERY, Part.FIELD)),
    (Part.QUERY, AttackClass.SSRF, r"""^data:[\w+.-]+/[\w+.-]+(?:[;,]|$)"""),
    (
        Part.CHARSET,
        AttackClass.PROTOCOL,
        r"""^(?:utf-?(?:7|16|32)\w*|shift[-_]jis|euc-\w+|iso-2022-\w+|hz-\w+|ibm\d+|ebcdic\w*|cp\d{3}|x-\w+)$""",
    ),
    (Part.QUERY, AttackClass.SPLITTING, r"""^[^{]*[\r\n]\s*[a-z][\w-]*[\s]*:\s*\S|\r[^\n]*=|\n\w+=\S"""),
    (Part.AGENT, AttackClass.PROBING, rf"""\b(?:{_TOOLS})\b"""),
)

# Rules that match what people write about programs.
_LOOSE: Final = """
sqli-1 sqli-4 sqli-5 sqli-6 sqli-9 sqli-10 sqli-11 sqli-12 sqli-20 sqli-22 rce-1 rce-2 rce-3 rce-11 rce-12
rce-13 rce-15 rce-16 rce-19 rce-24 rce-25 xss-4 xss-6 xss-7 xss-8 xss-10 ssti-2 ssti-3 xxe-1 traversal-3
ldap-2 ldap-3
"""

OWN_RULES: Final = tuple(
    Rule(f"{kind.value}-{number}", kind, pattern, is_sure=False, is_loose=f"{kind.value}-{number}" in _LOOSE.split())
    for kind, patterns in _PATTERNS
    for number, pattern in enumerate(patterns, 1)
) + tuple(
    Rule(f"{kind.value}-{part.name.lower()}-{number}", kind, pattern, is_sure=False, part=part)
    for number, (part, kind, pattern) in enumerate(_PLACED, 1)
)
