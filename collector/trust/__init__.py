"""Decides which sensors may connect: the certificate authority, enrolment, revocation, and TLS before gRPC.

By default a sensor off loopback presents a client certificate whose URI names its cluster and node. A sensor on
loopback presents the sensors' token (`sensor_auth`). Certificates are signed by the collector's own authority or by the
operator's. `collector/trust/tls_terminator.py` ends TLS and gives each connection's certificate to the gRPC services.
"""
