"""Programs that only pass calls on: what they answer is another service's answer, so they are a hop and never an
endpoint. Pure.

Web servers that can do both (nginx, httpd, caddy, lighttpd) are not here: on a plain host nothing on the node's own
evidence tells a static file from a forwarded call, and an endpoint shown twice is better than one not shown.
"""

# Executable's file name: where it is documented to do nothing but forward.
FORWARDING_PROGRAMS: dict[str, str] = {
    "docker-proxy": "moby cmd/docker-proxy: the userland proxy of a published port",
    "envoy": "envoyproxy.io",
    "haproxy": "haproxy.org",
    "linkerd2-proxy": "linkerd.io, the sidecar",
    "pilot-agent": "istio.io, the sidecar's agent and probe forwarder",
    "rootlesskit": "github.com/rootless-containers/rootlesskit, port driver",
    "slirp4netns": "github.com/rootless-containers/slirp4netns",
    "pasta": "passt.top, rootless podman",
    "pasta.avx2": "passt.top, rootless podman",
    "rootlessport": "podman's rootless port forwarder",
    "socat": "socat(1)",
    "systemd-socket-proxyd": "systemd-socket-proxyd(8)",
    "traefik": "traefik.io",
    "varnishd": "varnish-cache.org",
    "ssh": "ssh(1) -L",
    "sshd": "ssh(1) -R",
    "sshd-session": "ssh(1) -R, OpenSSH 9.8 and later",
    "kubectl": "kubectl port-forward and kubectl proxy",
}


def is_forwarding(executable: str) -> bool:
    """Whether the program of this file name only passes calls on."""
    return executable in FORWARDING_PROGRAMS
