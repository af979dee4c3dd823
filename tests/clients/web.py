"""Serves the files of a folder: plain, or over TLS to clients that an authority knows.

    web.py FOLDER PORT-FILE [CERTIFICATE KEY CLIENT-AUTHORITY]
"""

import functools
import http.server
import os
import ssl
import sys

folder, port_file, *tls = sys.argv[1:]
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
if tls:
    certificate, key, authority = tls
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    server.socket = context.wrap_socket(server.socket, server_side=True)
# Whole or not there.
with open(port_file + ".new", "w") as out:
    out.write(str(server.server_address[1]))
os.rename(port_file + ".new", port_file)
server.serve_forever()
