"""Names of programs that commands begin with, as parts of patterns: POSIX, GNU and util-linux, package managers,
interpreters, archivers, network clients, what operates containers and configuration. Pure.

`PROGRAMS` and `WINDOWS_PROGRAMS` are no words that people write otherwise; `WORDS` are, and are looked for only where
an argument of a command follows.
"""

import re
from typing import Final

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
