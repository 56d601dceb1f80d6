"""Who may talk to the collector: its authority, the certificates of sensors, how a sensor gets one and loses it again.

A sensor off loopback is known by a client certificate whose URI names cluster and node. The collector's own authority
signs them (or the operator's, by files); `gate` ends TLS and hands each connection's certificate to the gRPC services.
"""
