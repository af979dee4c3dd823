"""Says whether a message on standard input is signed by DKIM with a key.

    dkim_verify.py RECORD      RECORD: the text that DNS would have of the key
"""

import sys

import dkim

record = sys.argv[1].encode()
print(dkim.verify(sys.stdin.buffer.read(), dnsfunc=lambda name, timeout=5: record))
