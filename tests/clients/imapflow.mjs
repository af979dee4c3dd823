// A day with imapflow; says what each call was answered.
//
//   imapflow.mjs FOLDER-OF-IMAPFLOW PORT CA LOGIN PASSWORD
//
// In the INBOX are an acceptance and a delivery receipt. After "idling" something must be delivered.

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const [library, port, ca, user, pass] = process.argv.slice(2);
const { ImapFlow } = createRequire(import.meta.url)(library);
const settings = {
    host: 'localhost',
    port: Number(port),
    secure: true,
    tls: { ca: readFileSync(ca) },
    auth: { user, pass },
    logger: false,
};

const tell = (what, answer) => {
    const plain = (_, value) => {
        if (value instanceof Map) return Object.fromEntries(value);
        if (value instanceof Set) return [...value].sort();
        return typeof value === 'bigint' ? Number(value) : value;
    };
    console.log(`${what}: ${JSON.stringify(answer, plain)}`);
};

// The structure of a message as an outline: types, with what is inside them.
const outline = part => {
    const inside = (part.childNodes || []).map(outline);
    return inside.length ? `${part.type}(${inside.join(' ')})` : part.type;
};

// Whom nobody vouches for is not spoken to.
const stranger = new ImapFlow({ ...settings, tls: {} });
stranger.on('error', () => {});
tell('without the authority', await stranger.connect().catch(error => error.code));
const wrong = new ImapFlow({ ...settings, auth: { user, pass: 'sbagliata' } });
tell('wrong password', await wrong.connect().catch(error => error.responseText));
// It would wait until the server is tired of waiting.
wrong.close();

const imap = new ImapFlow(settings);
await imap.connect();
tell('enabled', imap.enabled);
tell('server', (await imap.run('ID', {})).name);
for (const { path, specialUse } of await imap.list()) tell('list', [path, specialUse]);
const quota = await imap.getQuota('INBOX');
tell('quota', [quota.storage.limit, quota.storage.usage > 0, quota.messages]);

await imap.mailboxOpen('INBOX');
tell('exists', imap.mailbox.exists);
const items = { uid: true, flags: true, envelope: true, bodyStructure: true, size: true, source: true };
for (const message of await imap.fetchAll('1:*', items)) {
    const { subject, from } = message.envelope;
    tell('message', [message.uid, message.flags, subject, from[0].address, message.size === message.source.length]);
    tell('structure', outline(message.bodyStructure));
}
// The signed part as it is signed: its header and its body, octet for octet in the whole message.
const signed = await imap.fetchOne('2', { bodyParts: ['1.mime', '1'], source: true });
const part = Buffer.concat([signed.bodyParts.get('1.mime'), signed.bodyParts.get('1')]);
const at = signed.source.indexOf(part);
const around = signed.source.subarray(at + part.length, at + part.length + 4).toString();
tell('signed part', [at > 0, JSON.stringify(around)]);
const { content, meta } = await imap.download('2', '1.3');
const original = createHash('sha256');
let octets = 0;
for await (const piece of content) {
    original.update(piece);
    octets += piece.length;
}
tell('download', [meta.contentType, meta.filename, octets > 0]);
tell('search', await imap.search({ keyword: '$PecAccettazione' }));
tell('search in text', await imap.search({ body: 'consegnato nella casella' }));
tell('search header', await imap.search({ header: { 'X-Ricevuta': 'avvenuta-consegna' } }));

tell('flags', await imap.messageFlagsAdd('1', ['\\Seen', 'Protocollato']));
tell('flags', (await imap.fetchOne('1', { flags: true })).flags);
const draft = 'From: a@example.org\r\nSubject: Bozza\r\n\r\nPerché no?\r\n';
const appended = await imap.append('Bozze', Buffer.from(draft), ['\\Draft'], new Date('2026-03-02T08:00:00Z'));
tell('append', [appended.destination, appended.uid]);
tell('create', (await imap.mailboxCreate('Attività')).path);
const moved = await imap.messageMove('1', 'Attività');
tell('move', [moved.path, moved.destination, moved.uidMap]);
const status = await imap.status('Attività', { messages: true, unseen: true, uidNext: true });
tell('status', [status.messages, status.unseen, status.uidNext]);

// Told of what arrives while it idles, without asking.
const told = new Promise(resolve => imap.once('exists', resolve));
const idle = imap.idle();
console.log('idling');
const { count, prevCount } = await told;
tell('told', [prevCount, count]);
await imap.noop();
await idle;
tell('new', (await imap.fetchOne('*', { envelope: true })).envelope.subject);
await imap.logout();
