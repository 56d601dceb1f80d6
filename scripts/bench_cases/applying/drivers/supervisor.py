"""Asks supervisord over XML-RPC as supervisorctl does."""

import sys
import xmlrpc.client

root = sys.argv[1].replace("http://", "http://ops:wheel-42-turn@")
for _ in range(10):
    proxy = xmlrpc.client.ServerProxy(root + "/RPC2")
    proxy.supervisor.getState()
    proxy.supervisor.getAllProcessInfo()
    proxy.supervisor.getProcessInfo("idle")
    proxy.supervisor.stopProcess("idle")
    proxy.supervisor.startProcess("idle", False)
    proxy.system.listMethods()
