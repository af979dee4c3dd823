// What tests/thunderbird/run does inside Thunderbird, with the functions that its own windows use.

const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
const { setTimeout: later } = ChromeUtils.importESModule("resource://gre/modules/Timer.sys.mjs");

const WAIT_MS = 50_000;

/** Looks until `look` gives something. */
async function until(what, look) {
  const end = Date.now() + WAIT_MS;
  for (;;) {
    const found = await look();
    if (found) {
      return found;
    }
    if (Date.now() > end) {
      throw new Error(`${what} did not come`);
    }
    await new Promise(resolve => later(resolve, 100));
  }
}

function server() {
  return MailServices.accounts.getAccount("account1").incomingServer;
}

function folder(name) {
  return server().rootFolder.getChildNamed(name);
}

function window3pane() {
  return Services.wm.getMostRecentWindow("mail:3pane");
}

async function version() {
  await until("the main window", () => window3pane()?.document.readyState == "complete" && window3pane().gTabmail);
  return Services.appinfo.version;
}

/** Has the password saved as "remember it" would, so that no dialog asks. */
async function signIn(password) {
  for (const url of ["imap://localhost", "smtp://localhost"]) {
    const login = Cc["@mozilla.org/login-manager/loginInfo;1"].createInstance(Ci.nsILoginInfo);
    login.init(url, null, url, server().username, password, "", "");
    await Services.logins.addLoginAsync(login);
  }
  server().password = password;
  server().performExpand(window3pane().msgWindow);
  await until("the folders", () => server().rootFolder.subFolders.length >= 6);
  return true;
}

/** Each folder that the server told, with the use that Thunderbird gives it. */
async function folders() {
  const uses = { Inbox: 0x1000, Drafts: 0x400, Trash: 0x100, SentMail: 0x200, Junk: 0x40000000, Archive: 0x4000 };
  return server().rootFolder.subFolders.map(folder => {
    const use = Object.keys(uses).filter(name => folder.flags & uses[name]);
    return `${folder.prettyName ?? folder.name}: ${use.join(" ")}`;
  });
}

/** Sends as the compose window does, and waits until it says that it has sent. */
async function send(from, to, subject, body) {
  const fields = Cc["@mozilla.org/messengercompose/composefields;1"].createInstance(Ci.nsIMsgCompFields);
  fields.from = from;
  fields.to = to;
  fields.subject = subject;
  fields.body = body;
  const parameters = Cc["@mozilla.org/messengercompose/composeparams;1"].createInstance(Ci.nsIMsgComposeParams);
  parameters.composeFields = fields;
  parameters.identity = MailServices.accounts.getIdentity("id1");
  parameters.format = Ci.nsIMsgCompFormat.PlainText;
  parameters.type = Ci.nsIMsgCompType.New;
  MailServices.compose.OpenComposeWindowWithParams(null, parameters);
  const compose = await until("the compose window", () => {
    const found = Services.wm.getMostRecentWindow("msgcompose");
    return found?.gMsgCompose?.editor && found.composeEditorReady !== false && found;
  });
  const sent = new Promise((resolve, reject) => {
    compose.gMsgCompose.addMsgSendListener({
      QueryInterface: ChromeUtils.generateQI(["nsIMsgSendListener"]),
      onStartSending() {},
      onProgress() {},
      onSendProgress() {},
      onStatus() {},
      onStopSending(id, status, message) {
        if (Components.isSuccessCode(status)) {
          resolve();
        } else {
          reject(new Error(`not sent: ${status.toString(16)} ${message}`));
        }
      },
      onGetDraftFolderURI() {},
      onSendNotPerformed() {
        reject(new Error("not sent"));
      },
      onTransportSecurityError(id, status, security, location) {
        reject(new Error(`not sent, TLS: ${status.toString(16)} ${location}`));
      },
    });
  });
  compose.goDoCommand("cmd_sendNow");
  await sent;
  return true;
}

/** Subjects in the order of arrival. */
function subjects(folder) {
  return Array.from(folder.messages).map(header => header.mime2DecodedSubject);
}

function messageList() {
  return window3pane().document.getElementById("tabmail").currentAbout3Pane;
}

/** Shows the INBOX, as a click on it does: from then on Thunderbird has IDLE on it. */
async function watch() {
  const inbox = folder("INBOX");
  await until("the INBOX", () => {
    messageList().displayFolder(inbox.URI);
    return messageList().gDBView && messageList().gFolder == inbox;
  });
  return true;
}

/** Waits for these subjects in the INBOX: nothing asks for new mail, IDLE has to tell. */
async function inbox(wanted) {
  await until("the receipts", () => wanted.every(subject => subjects(folder("INBOX")).includes(subject)));
  return subjects(folder("INBOX"));
}

/** Opens a folder and gives its subjects. */
async function messages(name) {
  const opened = folder(name);
  opened.updateFolder(null);
  await until(`a message in ${name}`, () => subjects(opened).length > 0);
  return subjects(opened);
}

/** Shows a message in the main window, and waits for a sentence in it; gives what the reader sees. */
async function open(subject, sentence) {
  const header = Array.from(folder("INBOX").messages).find(each => each.mime2DecodedSubject == subject);
  await watch();
  const row = await until("the row", () => {
    const found = messageList().gDBView.findIndexOfMsgHdr(header, true);
    return found == 0xffffffff ? null : { found };
  });
  messageList().threadTree.selectedIndex = row.found;
  const reader = messageList().messageBrowser.contentWindow;
  await until(`"${sentence}"`, () => {
    const text = reader.getMessagePaneBrowser()?.contentDocument?.body?.innerText;
    return reader.gMessage == header && text?.includes(sentence) && text.includes("Identificativo messaggio");
  });
  const icon = await until("the signature's verdict", () => reader.document.getElementById("signedHdrIcon")?.src);
  return {
    sentence,
    attachments: reader.currentAttachments.map(attachment => attachment.name).sort(),
    signature: icon.split("/").pop(),
  };
}
