"""A tour of a mailbox with imaplib; says what each call was answered.

    mailbox.py PORT CA LOGIN PASSWORD
"""

import imaplib
import re
import ssl
import sys

port, ca, login, password = sys.argv[1:]
imap = imaplib.IMAP4_SSL("localhost", int(port), ssl_context=ssl.create_default_context(cafile=ca), timeout=30)


def tell(what, answer):
    status, data = answer
    lines = [part if isinstance(part, bytes) else b"".join(part) for part in data if part is not None]
    text = " | ".join(line.decode("latin-1").replace("\r\n", "\\r\\n") for line in lines)
    # What differs from run to run.
    text = re.sub(r"(APPENDUID |COPYUID |\b)\d{10}", r"\1V", text)
    text = re.sub(r"MAILBOXID \(F\d+\)", "MAILBOXID (V)", text)
    print(f"{what}: {status} {text}".rstrip())


DRAFT = b"From: a@example.org\r\nTo: b@example.org\r\nSubject: Bozza\r\n\r\nTesto\r\n"
WHEN = '"02-Mar-2026 09:00:00 +0100"'

print("IDLE", "IDLE" in imap.capabilities, "MOVE", "MOVE" in imap.capabilities)
tell("login", imap.login(login, password))
tell("list", imap.list())
tell("lsub", imap.lsub('""', "Posta*"))
tell("create", imap.create("Clienti"))
tell("subscribe", imap.subscribe("Clienti"))
tell("append", imap.append("Clienti", r"(\Draft)", WHEN, DRAFT))
tell("append", imap.append("Clienti", r"(\Seen \Flagged)", WHEN, DRAFT.replace(b"Bozza", b"Seconda")))
tell("select", imap.select("Clienti"))
tell("uidnext", imap.response("UIDNEXT"))
tell("search", imap.search(None, "UNSEEN", "SUBJECT", '"bozza"'))
tell("search in UTF-8", imap.uid("SEARCH", "CHARSET", "UTF-8", "TEXT", '"Testo"'))
tell("fetch", imap.fetch("1:2", "(UID FLAGS INTERNALDATE RFC822.SIZE)"))
tell("fetch header", imap.fetch("1", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])"))
tell("fetch part of text", imap.fetch("1", "(BODY.PEEK[TEXT]<1.3>)"))
tell("fetch envelope", imap.fetch("2", "(ENVELOPE)"))
tell("store", imap.store("1", "+FLAGS", r"(\Seen $Forwarded)"))
tell("store silently", imap.store("1", "FLAGS.SILENT", r"(\Answered)"))
tell("copy", imap.copy("1", '"Archivio"'))
tell("uid move", imap.uid("MOVE", "2", '"Cestino"'))
tell("copyuid", imap.response("COPYUID"))
tell("store deleted", imap.store("1", "+FLAGS", r"(\Deleted)"))
tell("expunge", imap.expunge())
tell("close", imap.close())
tell("status", imap.status("Archivio", "(MESSAGES UIDNEXT UNSEEN)"))
tell("status", imap.status("Cestino", "(MESSAGES UIDNEXT UNSEEN)"))
for answer in imap.getquotaroot("INBOX")[1]:
    tell("quota", ("OK", answer))
tell("rename", imap.rename("Clienti", '"Clienti vecchi"'))
tell("unsubscribe", imap.unsubscribe("Clienti"))
tell("delete", imap.delete('"Clienti vecchi"'))
for call in (imap.delete, lambda name: imap.rename(name, "Altro")):
    tell("a system folder", call('"Posta inviata"'))
tell("logout", imap.logout())
