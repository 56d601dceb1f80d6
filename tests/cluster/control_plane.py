"""A real control plane in a network namespace of its own: etcd, API server, controller manager, scheduler.

Its programs are found on the PATH and in `APIDAE_KUBERNETES_BIN`; nothing is fetched. Addresses are those of the
namespaces of `tests.cluster.network`, which no packet leaves. Keys and certificates are made for each cluster.
"""

import datetime
import ipaddress
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from scripts.live.program import Program
from tests.waiting import wait_until

CONTROL_PROGRAMS: Final = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
SERVICE_RANGE: Final = "10.96.0.0/16"
API_SERVICE: Final = "10.96.0.1"
POD_RANGE: Final = "10.1.0.0/16"
_DAYS: Final = 2
_SIGNS: Final = x509.KeyUsage(
    digital_signature=True,
    key_cert_sign=True,
    crl_sign=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)
_READY_SECONDS: Final = 180.0
_API_SERVER_AWAY_SECONDS: Final = 10.0


def find_binary(name: str) -> Path | None:
    """A program of Kubernetes."""
    path = f"{os.environ.get('APIDAE_KUBERNETES_BIN', '')}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    found = shutil.which(name, path=path)
    return Path(found) if found else None


def need_binary(name: str) -> str:
    """Its path; it is there (`why_no_real_cluster`)."""
    found = find_binary(name)
    assert found is not None, name
    return str(found)


class Supervised:
    """A program that is started again some seconds after it ended, as systemd does; its pid is in `NAME.pid`."""

    def __init__(self, name: str, command: Sequence[str], directory: Path, restart_seconds: float) -> None:
        self._name, self._command, self._directory = name, command, directory
        self._restart_seconds = restart_seconds
        self._is_stopping = threading.Event()
        self._starts = 0
        self.program = self._start()
        self._thread = threading.Thread(target=self._watch, name=f"watch-{name}", daemon=True)
        self._thread.start()

    @property
    def pid_path(self) -> Path:
        """Of its last start."""
        return self._directory / f"{self._name}.pid"

    def _start(self) -> Program:
        self._starts += 1
        program = Program(self._name, self._command, self._directory / f"{self._name}-{self._starts}.log")
        self.pid_path.write_text(f"{program.pid}\n")
        return program

    def _watch(self) -> None:
        while not self._is_stopping.is_set():
            self.program.process.wait()
            if not self._is_stopping.wait(self._restart_seconds):
                self.program.stop()
                self.program = self._start()

    def stop(self) -> None:
        """For good."""
        self._is_stopping.set()
        self.program.stop()
        self._thread.join()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterAuthority:
    """One authority for all certificates of a cluster, whose files lie in `directory`."""

    directory: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def path(self) -> Path:
        """The certificate, PEM."""
        return self.directory / "ca.crt"

    def issue(
        self, name: str, common_name: str, group: str = "", names: Sequence[str] = (), addresses: Sequence[str] = ()
    ) -> tuple[Path, Path]:
        """(certificate, key) as files called `name`, good for servers and clients."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
        subject += [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []
        builder = _begin_certificate(x509.Name(subject), self.certificate.subject, key.public_key())
        alternatives: list[x509.GeneralName] = [x509.DNSName(one) for one in names]
        alternatives += [x509.IPAddress(ipaddress.ip_address(one)) for one in addresses]
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        usage = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = builder.add_extension(issuer, critical=False)
        paths = self.directory / f"{name}.crt", self.directory / f"{name}.key"
        paths[0].write_bytes(builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM))
        write_private_key(paths[1], key)
        return paths

    def write_kubeconfig(self, name: str, server: str, common_name: str, group: str = "") -> Path:
        """A kubeconfig of this user, which holds all it needs but names files of this directory."""
        certificate, key = self.issue(name, common_name, group)
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "real",
            "contexts": [{"name": "real", "context": {"cluster": "real", "user": "real"}}],
            "clusters": [{"name": "real", "cluster": {"server": server, "certificate-authority": str(self.path)}}],
            "users": [
                {"name": "real", "user": {"client-certificate": str(certificate), "client-key": str(key)}},
            ],
        }
        path = self.directory / f"{name}.kubeconfig"
        path.write_text(json.dumps(config))
        return path


def make_cluster_authority(directory: Path) -> ClusterAuthority:
    """A new one, whose certificate is `ca.crt` there."""
    directory.mkdir(parents=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test cluster")])
    builder = _begin_certificate(name, name, key.public_key())
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = builder.add_extension(own, critical=False).add_extension(_SIGNS, critical=True)
    authority = ClusterAuthority(directory=directory, key=key, certificate=builder.sign(key, hashes.SHA256()))
    authority.path.write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    return authority


def write_private_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """PEM in the form that Kubernetes reads for keys of accounts too."""
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    path.chmod(0o600)


def _begin_certificate(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=_DAYS))
    )


class ControlPlane:
    """Runs from the constructor on; all its programs end with the stack. `kubectl` runs in its network namespace."""

    def __init__(self, directory: Path, namespace: str, address: str, stack: ExitStack) -> None:
        self.directory, self.address = directory, address
        self.authority = make_cluster_authority(directory / "pki")
        self.url = f"https://{address}:6443"
        self.enter = ["ip", "netns", "exec", namespace]
        self.kubeconfig = self.authority.write_kubeconfig("admin", self.url, "admin", "system:masters")
        self._stack = stack
        self._certificate = self.authority.issue(
            "apiserver",
            "kube-apiserver",
            "system:masters",
            names=("kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"),
            addresses=(address, API_SERVICE, "127.0.0.1"),
        )
        accounts = ec.generate_private_key(ec.SECP256R1())
        write_private_key(self.authority.directory / "accounts.key", accounts)
        public = accounts.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (self.authority.directory / "accounts.pub").write_bytes(public)
        self._start_etcd()
        self.api_server = self._start_api_server()
        wait_until(
            lambda: self.kubectl("get", "--raw", "/readyz", is_checked=False) == "ok",
            f"the API server is not ready: see {directory}/kube-apiserver-1.log",
            seconds=_READY_SECONDS,
        )
        self._start_controllers()

    def _start(self, name: str, *arguments: str) -> Program:
        command = [*self.enter, need_binary(name), *arguments]
        program = Program(name, command, self.directory / f"{name}.log")
        self._stack.callback(program.stop)
        return program

    def _start_etcd(self) -> None:
        client = "http://127.0.0.1:2379"
        self._start(
            "etcd",
            *("--data-dir", str(self.directory / "etcd"), "--unsafe-no-fsync"),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", "http://127.0.0.1:2380", "--initial-advertise-peer-urls", "http://127.0.0.1:2380"),
            *("--initial-cluster", "default=http://127.0.0.1:2380"),
        )

    def _start_api_server(self) -> Supervised:
        pki = self.authority.directory
        certificate, key = map(str, self._certificate)
        command = [
            *(*self.enter, need_binary("kube-apiserver")),
            *("--etcd-servers=http://127.0.0.1:2379", f"--service-cluster-ip-range={SERVICE_RANGE}"),
            *(f"--advertise-address={self.address}", f"--bind-address={self.address}", "--secure-port=6443"),
            *(f"--tls-cert-file={certificate}", f"--tls-private-key-file={key}"),
            *(f"--client-ca-file={self.authority.path}", "--authorization-mode=Node,RBAC"),
            "--kubelet-preferred-address-types=InternalIP",
            *(f"--kubelet-client-certificate={certificate}", f"--kubelet-client-key={key}"),
            *("--service-account-issuer=https://kubernetes.default.svc", "--allow-privileged=true"),
            *(
                f"--service-account-key-file={pki}/accounts.pub",
                f"--service-account-signing-key-file={pki}/accounts.key",
            ),
            "--enable-admission-plugins=NodeRestriction",
        ]
        server = Supervised("kube-apiserver", command, self.directory, _API_SERVER_AWAY_SECONDS)
        self._stack.callback(server.stop)
        return server

    def _start_controllers(self) -> None:
        pki = self.authority.directory
        manager = self.authority.write_kubeconfig("manager", self.url, "system:kube-controller-manager")
        scheduler = self.authority.write_kubeconfig("scheduler", self.url, "system:kube-scheduler")
        self._start(
            "kube-controller-manager",
            *(f"--kubeconfig={manager}", f"--root-ca-file={self.authority.path}", "--leader-elect=false"),
            *(f"--service-account-private-key-file={pki}/accounts.key", "--use-service-account-credentials=true"),
            *("--bind-address=127.0.0.1", "--authorization-always-allow-paths=/healthz"),
        )
        self._start(
            "kube-scheduler",
            *(f"--kubeconfig={scheduler}", "--leader-elect=false", "--bind-address=127.0.0.1"),
        )

    def kubectl(self, *arguments: str, text: str = "", is_checked: bool = True) -> str:
        """Its output. Raises AssertionError with its errors, unless not `is_checked`."""
        command = [*self.enter, need_binary("kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments]
        done = subprocess.run(command, input=text, text=True, capture_output=True, check=False, timeout=300)
        assert not is_checked or done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout.strip()

    def apply(self, *manifests: dict[str, Any]) -> None:
        """Objects as they are."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        self.kubectl("apply", "--validate=false", "-f", "-", text=json.dumps(listed))
