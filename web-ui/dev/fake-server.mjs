// A stand-in for the server, in memory, for working on the screens and on the browser test. Never part of the product.
// usage: node dev/fake-server.mjs [port [port of a second node]]; prints the set-up link. Two nodes share one memory; what
// a file named by HOLDFAST_PAIR_FILE asks for is done to them, see tests/web/failover.mjs.
import { createHash, randomBytes, randomUUID } from "node:crypto";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { WebSocketServer } from "ws";

const port = Number(process.argv[2] ?? 8099);
const origin = `http://127.0.0.1:${port}`;
/** The nodes; with one there is no pair. */
const nodes = process.argv
  .slice(2, 4)
  .map(Number)
  .concat(process.argv.length > 2 ? [] : [port])
  .map((at) => ({ port: at, origin: `http://127.0.0.1:${at}`, sockets: new Set(), server: null }));
const addresses = nodes.map((node) => node.origin);
let active = nodes[0];
/** How long a promotion takes here. */
const PROMOTION_MS = 1_500;
const dist = join(fileURLToPath(new URL(".", import.meta.url)), "..", "dist");
const TYPES = {
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
  ".html": "text/html; charset=utf-8",
};

let nextId = 1;
let pos = 0;
const id = () => String(nextId++);
const now = () => Date.now();
const users = new Map();
const passwords = new Map();
const sessions = new Map();
const invites = new Map();
const channels = new Map();
const sockets = new Set();
const history = [];
let settings = null;
const setupToken = `hfs_${randomBytes(12).toString("hex")}`;

const fail = (status, code, more = {}) => Object.assign(new Error(code), { status, code, more });
const digest = (text) => createHash("sha256").update(text).digest("hex");

function emit(recipients, event) {
  pos += 1;
  const frame = { ...event, pos: String(pos) };
  history.push({ recipients, frame });
  for (const socket of sockets) if (socket.user && recipients.has(socket.user.id)) socket.send(JSON.stringify(frame));
}

function ephemeral(recipients, event, except) {
  for (const socket of sockets) {
    if (socket.user && socket.user.id !== except && recipients.has(socket.user.id)) socket.send(JSON.stringify(event));
  }
}

const everyone = () => new Set(users.keys());
const membersOf = (channel) => new Set(channel.members.keys());
const publicChannel = (channel) => {
  const { members, messages, ...rest } = channel;
  return { ...rest, member_count: members.size };
};
const entryOf = (channel, userId) => {
  const { user_id, ...member } = channel.members.get(userId);
  return { channel: publicChannel(channel), member };
};
const memberOf = ({ user_id, role, joined_ms }) => ({ user_id, role, joined_ms });

function addUser(username, display_name, password, role, locale = "") {
  if ([...users.values()].some((user) => user.username === username)) throw fail(409, "username_taken");
  if (password.length < 10) throw fail(422, "password_too_short", { field: "password" });
  const user = {
    id: id(),
    username,
    display_name,
    role,
    locale,
    disabled: false,
    version: 1,
    created_ms: now(),
    must_change_password: false,
  };
  users.set(user.id, user);
  passwords.set(user.id, digest(password));
  emit(everyone(), { event: "user.created", user });
  return user;
}

function signIn(user, device = "", address = "127.0.0.1") {
  const token = `hf_${randomBytes(24).toString("hex")}`;
  const session = {
    id: id(),
    user_id: user.id,
    device,
    address,
    created_ms: now(),
    expires_ms: now() + 30 * 86400e3,
    current: true,
  };
  sessions.set(token, session);
  return { token, session, user };
}

function addMember(channel, userId, role = "member") {
  const held = channel.members.get(userId);
  if (held) {
    held.role = role;
    emit(membersOf(channel), { event: "member.updated", channel_id: channel.id, member: memberOf(held) });
    return held;
  }
  const member = { user_id: userId, role, joined_ms: now(), read_seq: channel.last_seq, notify: "all" };
  channel.members.set(userId, member);
  emit(new Set([userId]), { event: "channel.created", entry: entryOf(channel, userId) });
  emit(membersOf(channel), { event: "member.added", channel_id: channel.id, member: memberOf(member) });
  return member;
}

function addChannel(kind, name, topic, creator, directIds = []) {
  if (name && [...channels.values()].some((held) => held.name === name)) throw fail(409, "channel_name_taken");
  const channel = {
    id: id(),
    kind,
    name,
    topic,
    creator_id: creator,
    created_ms: now(),
    archived: false,
    version: 1,
    direct_user_ids: directIds,
    last_seq: 0,
    last_ms: now(),
    members: new Map(),
    messages: [],
  };
  channels.set(channel.id, channel);
  return channel;
}

function addMessage(channel, senderId, client_id, body, created_ms = now()) {
  const held = channel.messages.find((message) => message.client_id === client_id && message.sender_id === senderId);
  if (held) return held;
  if (body.trim() === "") throw fail(422, "message_empty");
  channel.last_seq += 1;
  channel.last_ms = created_ms;
  const message = {
    id: id(),
    channel_id: channel.id,
    seq: channel.last_seq,
    sender_id: senderId,
    client_id,
    body,
    version: 1,
    created_ms,
    edited_ms: null,
    deleted_ms: null,
  };
  channel.messages.push(message);
  // Whoever writes has read.
  const writer = channel.members.get(senderId);
  if (writer) writer.read_seq = message.seq;
  emit(membersOf(channel), { event: "message.created", message: { ...message } });
  return message;
}

const page = (items) => ({ items, next_cursor: null });
const mine = (channelId, userId) => {
  const channel = channels.get(channelId);
  if (!channel) throw fail(404, "channel_not_found");
  const member = channel.members.get(userId);
  if (!member) throw fail(403, "not_a_member");
  return { channel, member };
};
const match = (req, record) => {
  if (req.headers["if-match"] === undefined) throw fail(428, "precondition_required");
  if (req.headers["if-match"] !== `"${record.version}"`) throw fail(412, "stale_version", { current: record });
};

let tries = 0;
const open = {
  "GET /server": ({ node }) => ({
    name: "holdfast",
    version: "0.1.0",
    organisation: settings?.organisation ?? "",
    default_locale: settings?.default_locale ?? "en",
    set_up: settings !== null,
    setup_locked: false,
    node: { role: node === active ? "active" : "standby" },
    addresses,
    ca_fingerprint: digest("ca").toUpperCase().match(/../g).join(":"),
    min_password_chars: 10,
    message_bytes_max: 16384,
  }),
  "POST /setup/check": ({ body }) => {
    if (settings) throw fail(409, "already_set_up");
    if (body.token !== setupToken) throw fail(403, "setup_token_invalid");
  },
  "POST /setup": ({ body }) => {
    open["POST /setup/check"]({ body });
    const user = addUser(body.username, body.display_name, body.password, "owner", body.locale);
    settings = {
      version: 1,
      organisation: body.organisation,
      default_locale: body.locale,
      time_zone: body.time_zone,
      session_days: 30,
      edit_window_seconds: 86400,
    };
    return [201, signIn(user)];
  },
  "POST /login": ({ body }) => {
    const user = [...users.values()].find((held) => held.username === body.username);
    if (!user || passwords.get(user.id) !== digest(body.password)) {
      tries += 1;
      if (tries > 4) {
        tries = 0;
        throw fail(429, "rate_limited", { retry_after_seconds: 5 });
      }
      throw fail(401, "login_failed");
    }
    tries = 0;
    return signIn(user, body.device);
  },
  "POST /invites/check": ({ body }) => {
    const invite = invites.get(body.token);
    if (!invite) throw fail(404, "invite_invalid");
    if (invite.uses >= invite.uses_max) throw fail(409, "invite_used_up");
    return {
      organisation: settings.organisation,
      role: invite.role,
      expires_ms: invite.expires_ms,
      invited_by: users.get(invite.creator_id).display_name,
    };
  },
  "POST /invites/accept": ({ body }) => {
    open["POST /invites/check"]({ body });
    const invite = invites.get(body.token);
    const user = addUser(body.username, body.display_name, body.password, invite.role, body.locale);
    invite.uses += 1;
    for (const channelId of invite.channel_ids) addMember(channels.get(channelId), user.id);
    return [201, signIn(user, body.device)];
  },
};

const guarded = {
  "POST /logout": ({ token }) => void sessions.delete(token),
  "GET /me": ({ user, session }) => ({ user, session, settings, pos: String(pos) }),
  "PATCH /me": ({ req, user, body }) => {
    match(req, user);
    Object.assign(user, body, { version: user.version + 1 });
    emit(everyone(), { event: "user.updated", user: { ...user } });
    return user;
  },
  "POST /me/password": ({ user, body }) => {
    if (passwords.get(user.id) !== digest(body.current_password)) throw fail(401, "login_failed");
    if (body.new_password.length < 10) throw fail(422, "password_too_short", { field: "password" });
    passwords.set(user.id, digest(body.new_password));
  },
  "GET /me/sessions": ({ user, session }) => ({
    items: [...sessions.values()]
      .filter((held) => held.user_id === user.id)
      .map((held) => ({ ...held, current: held.id === session.id })),
  }),
  "DELETE /me/sessions/:a": ({ a }) => {
    for (const [token, held] of sessions) if (held.id === a) sessions.delete(token);
    for (const socket of sockets) if (socket.session?.id === a) socket.close(4001);
  },
  "GET /users": ({ query }) => {
    const wanted = (query.get("query") ?? "").toLowerCase();
    return page(
      [...users.values()].filter((user) => `${user.username} ${user.display_name}`.toLowerCase().includes(wanted)),
    );
  },
  "GET /users/:a": ({ a }) => users.get(a),
  "POST /invites": ({ user, body }) => {
    const token = `hfi_${randomBytes(12).toString("hex")}`;
    const invite = {
      id: id(),
      creator_id: user.id,
      role: body.role,
      channel_ids: body.channel_ids ?? [],
      created_ms: now(),
      expires_ms: now() + (body.expires_in_seconds ?? 604800) * 1000,
      uses_max: body.uses_max ?? 1,
      uses: 0,
      revoked: false,
    };
    invites.set(token, invite);
    return [201, { invite, token, link: `${origin}/invite#${token}` }];
  },
  "GET /channels": ({ user }) => ({
    items: [...channels.values()]
      .filter((channel) => channel.members.has(user.id))
      .map((channel) => entryOf(channel, user.id)),
    pos: String(pos),
  }),
  "GET /channels/browse": ({ query }) =>
    page(
      [...channels.values()]
        .filter(
          (channel) =>
            ["public", "announcement"].includes(channel.kind) &&
            !channel.archived &&
            channel.name.includes(query.get("query") ?? ""),
        )
        .map(publicChannel),
    ),
  "POST /channels": ({ user, body }) => {
    const channel = addChannel(body.kind, body.name, body.topic ?? "", user.id);
    addMember(channel, user.id, "manager");
    for (const other of body.member_ids ?? []) addMember(channel, other);
    return [201, entryOf(channel, user.id)];
  },
  "POST /channels/direct": ({ user, body }) => {
    let channel = [...channels.values()].find(
      (held) =>
        held.kind === "direct" &&
        [...new Set([user.id, body.user_id])].every((one) => held.members.has(one)) &&
        held.direct_user_ids.includes(body.user_id),
    );
    if (!channel) {
      channel = addChannel("direct", "", "", user.id, [user.id, body.user_id]);
      addMember(channel, user.id);
      if (body.user_id !== user.id) addMember(channel, body.user_id);
    }
    return entryOf(channel, user.id);
  },
  "GET /channels/:a": ({ a, user }) => {
    const channel = channels.get(a);
    if (!channel) throw fail(404, "channel_not_found");
    return channel.members.has(user.id) ? entryOf(channel, user.id) : { channel: publicChannel(channel), member: null };
  },
  "PATCH /channels/:a": ({ req, a, user, body }) => {
    const { channel } = mine(a, user.id);
    match(req, channel);
    Object.assign(channel, body, { version: channel.version + 1 });
    emit(membersOf(channel), { event: "channel.updated", channel: publicChannel(channel) });
    return publicChannel(channel);
  },
  "GET /channels/:a/members": ({ a }) => page([...channels.get(a).members.values()].map(memberOf)),
  "PUT /channels/:a/members/:b": ({ a, b, body }) => memberOf(addMember(channels.get(a), b, body.role ?? "member")),
  "DELETE /channels/:a/members/:b": ({ a, b }) => {
    const channel = channels.get(a);
    const recipients = membersOf(channel);
    channel.members.delete(b);
    emit(recipients, { event: "member.removed", channel_id: a, user_id: b });
  },
  "PATCH /channels/:a/membership": ({ a, user, body }) => {
    const { channel, member } = mine(a, user.id);
    member.notify = body.notify;
    const own = entryOf(channel, user.id).member;
    emit(new Set([user.id]), { event: "membership.updated", channel_id: a, member: own });
    return own;
  },
  "GET /channels/:a/messages": ({ a, user, query }) => {
    const { channel } = mine(a, user.id);
    const limit = Number(query.get("limit") ?? 50);
    const all = channel.messages;
    let from = Math.max(0, all.length - limit);
    let to = all.length;
    if (query.has("before")) {
      to = Number(query.get("before")) - 1;
      from = Math.max(0, to - limit);
    } else if (query.has("after")) {
      from = Number(query.get("after"));
      to = Math.min(all.length, from + limit);
    } else if (query.has("around")) {
      from = Math.max(0, Number(query.get("around")) - 1 - Math.floor(limit / 2));
      to = Math.min(all.length, from + limit);
    }
    return {
      items: all.slice(from, to),
      last_seq: channel.last_seq,
      has_before: from > 0,
      has_after: to < all.length,
      pos: String(pos),
    };
  },
  "POST /channels/:a/messages": ({ a, user, body }) => [
    201,
    addMessage(mine(a, user.id).channel, user.id, body.client_id, body.body),
  ],
  "PATCH /channels/:a/messages/:b": ({ req, a, b, user, body }) =>
    changeMessage(req, a, b, user, { body: body.body, edited_ms: now() }),
  "DELETE /channels/:a/messages/:b": ({ req, a, b, user }) =>
    changeMessage(req, a, b, user, { body: "", deleted_ms: now() }),
  "POST /channels/:a/read": ({ a, user, body }) => {
    const { member } = mine(a, user.id);
    member.read_seq = Math.max(member.read_seq, body.seq);
    emit(new Set([user.id]), { event: "read", channel_id: a, user_id: user.id, read_seq: member.read_seq });
    return [202];
  },
  "POST /channels/:a/typing": ({ a, user }) =>
    ephemeral(membersOf(mine(a, user.id).channel), { event: "typing", channel_id: a, user_id: user.id }, user.id),
  "GET /presence": () => ({ online: [...onlineIds()] }),
};

function changeMessage(req, a, b, user, change) {
  const { channel } = mine(a, user.id);
  const message = channel.messages[Number(b) - 1];
  match(req, message);
  if (message.sender_id !== user.id) throw fail(403, "forbidden");
  Object.assign(message, change, { version: message.version + 1 });
  emit(membersOf(channel), { event: "message.updated", message: { ...message } });
  return message;
}

const onlineIds = () => new Set([...sockets].filter((socket) => socket.user).map((socket) => socket.user.id));

function route(table, method, path) {
  for (const [key, handler] of Object.entries(table)) {
    const [wantMethod, pattern] = key.split(" ");
    const found =
      wantMethod === method && new RegExp(`^${pattern.replace(":a", "([^/]+)").replace(":b", "([^/]+)")}$`).exec(path);
    if (found) return { handler, a: found[1], b: found[2] };
  }
  return null;
}

async function api(req, url, node) {
  const path = url.pathname.slice("/api/v1".length);
  if (req.method === "OPTIONS") return [204];
  if (path === "/tls/ca.pem") return [200, "PEM"];
  let text = "";
  for await (const chunk of req) text += chunk;
  const body = text ? JSON.parse(text) : {};
  const token = (req.headers.authorization ?? "").replace("Bearer ", "");
  if (req.method !== "GET" && node !== active) throw fail(503, "not_active", whereTo());
  const context = { req, body, query: url.searchParams, token, node };
  const free = route(open, req.method, path);
  const held = free ?? route(guarded, req.method, path);
  if (!held) throw fail(404, "not_found");
  if (!free) {
    const session = sessions.get(token);
    if (!session) throw fail(401, "unauthenticated");
    context.session = session;
    context.user = users.get(session.user_id);
  }
  const result = held.handler({ ...context, a: held.a, b: held.b });
  if (Array.isArray(result)) return result;
  return result === undefined ? [204] : [200, result];
}

const whereTo = () => ({ addresses, ...(active ? { active: active.origin } : {}) });

/** What every answer of a pair tells, and what lets the page of the other node read it. */
function pairHeaders(req) {
  if (nodes.length < 2) return {};
  const told = { "holdfast-nodes": addresses.join(", ") };
  if (!addresses.includes(req.headers.origin)) return told;
  return {
    ...told,
    "access-control-allow-origin": req.headers.origin,
    "access-control-allow-methods": "GET, POST, PUT, PATCH, DELETE",
    "access-control-allow-headers": "authorization, content-type, if-match",
    "access-control-expose-headers": "holdfast-nodes, x-request-id, retry-after",
  };
}

function serveFile(res, path) {
  const nonce = randomBytes(16).toString("base64");
  let file = join(dist, normalize(path));
  if (path === "/" || !existsSync(file) || !extname(file)) file = join(dist, "index.html");
  const type = TYPES[extname(file)] ?? "application/octet-stream";
  const data = file.endsWith(".html")
    ? readFileSync(file, "utf8").replaceAll("__CSP_NONCE__", nonce)
    : readFileSync(file);
  res.writeHead(200, {
    "content-type": type,
    "content-security-policy": `default-src 'self'; style-src 'self' 'nonce-${nonce}'; img-src 'self' data: blob:; connect-src 'self' ${addresses.flatMap((at) => [at, at.replace("http", "ws")]).join(" ")}; font-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'`,
  });
  res.end(data);
}

const answer = (node) => (req, res) => {
  const url = new URL(req.url, origin);
  if (!url.pathname.startsWith("/api/")) return serveFile(res, url.pathname);
  api(req, url, node)
    .then(([status, body]) => {
      res.writeHead(status, {
        "content-type": "application/json",
        "x-request-id": randomUUID(),
        ...pairHeaders(req),
      });
      res.end(body === undefined ? undefined : JSON.stringify(body));
    })
    .catch((error) => {
      const status = error.status ?? 500;
      if (status === 500) console.error(error);
      res.writeHead(status, { "content-type": "application/problem+json", ...pairHeaders(req) });
      res.end(
        JSON.stringify({
          type: "about:blank",
          title: "",
          status,
          code: error.code ?? "internal",
          detail: error.message,
          request_id: randomUUID(),
          ...error.more,
        }),
      );
    });
};

const connection = (node) => (socket) => {
  node.sockets.add(socket);
  socket.on("message", (data) => {
    const frame = JSON.parse(String(data));
    if (frame.op === "hello") {
      if (node !== active) {
        socket.send(JSON.stringify({ id: frame.id, error: { code: "not_active", detail: "", ...whereTo() } }));
        return socket.close(4010, "not_active");
      }
      const session = sessions.get(frame.token);
      if (!session) return socket.close(4001);
      socket.session = session;
      socket.user = users.get(session.user_id);
      sockets.add(socket);
      const resumed = frame.pos !== undefined;
      socket.send(
        JSON.stringify({
          id: frame.id,
          ok: { user_id: socket.user.id, session_id: session.id, pos: String(pos), resumed, addresses },
        }),
      );
      if (resumed) {
        for (const { recipients, frame: missed } of history) {
          if (Number(missed.pos) > Number(frame.pos) && recipients.has(socket.user.id))
            socket.send(JSON.stringify(missed));
        }
      }
      ephemeral(everyone(), { event: "presence", online: [socket.user.id], offline: [] });
    } else if (frame.op === "ping") socket.send(JSON.stringify({ id: frame.id, ok: { pos: String(pos) } }));
  });
  socket.on("close", () => {
    sockets.delete(socket);
    node.sockets.delete(socket);
    if (socket.user && !onlineIds().has(socket.user.id))
      ephemeral(everyone(), { event: "presence", online: [], offline: [socket.user.id] });
  });
};

for (const node of nodes) {
  node.server = createServer(answer(node));
  new WebSocketServer({ server: node.server, path: "/api/v1/ws" }).on("connection", connection(node));
}

/** With SEED=1 the organisation is there already, with people and history, for screenshots. */
function seed() {
  settings = {
    version: 1,
    organisation: "Northwind 北风",
    default_locale: "en",
    time_zone: "UTC",
    session_days: 30,
    edit_window_seconds: 86400,
  };
  const ada = addUser("ada", "Ada Lovell", "correct horse battery", "owner", "");
  const lin = addUser("lin", "林晓雨", "correct horse battery", "member", "");
  const tom = addUser("tom", "Tom Becker", "correct horse battery", "member", "");
  const general = addChannel("public", "general", "Company-wide news and questions", ada.id);
  const ops = addChannel("private", "operations", "", ada.id);
  const news = addChannel("announcement", "announcements", "Read only", ada.id);
  const cn = addChannel("public", "产品讨论", "产品路线与需求", ada.id);
  for (const channel of [general, ops, news, cn])
    for (const user of [ada, lin, tom]) addMember(channel, user.id, user === ada ? "manager" : "member");
  const direct = addChannel("direct", "", "", ada.id, [ada.id, lin.id]);
  for (const user of [ada, lin]) addMember(direct, user.id);
  const start = now() - 3 * 86400e3;
  const say = (channel, user, text, ms) => addMessage(channel, user.id, randomUUID(), text, ms);
  for (let index = 1; index <= 900; index += 1)
    say(
      general,
      [ada, lin, tom][index % 3],
      `Note ${index}: the line was checked and is fine.${index % 7 === 0 ? " A longer remark follows so that the rows differ in height. ".repeat(3) : ""}`,
      start + index * 200e3,
    );
  const t = now() - 3600e3;
  say(general, tom, "Morning all! The **standby** took over during the drill at 03:12, and nobody noticed.", t);
  say(general, tom, "Report: https://intranet.example/drill/42", t + 20e3);
  say(general, lin, "太好了！我这边的客户端只闪了一下“正在重新连接”，消息都在。", t + 400e3);
  say(
    general,
    ada,
    "Great. For the record, this is how to see it:\n\n```\nholdfast status --pair\n```\n\n- role and epoch\n- replication lag\n- last drill",
    t + 900e3,
  );
  say(general, tom, "> nobody noticed\n\nThat is the best review we ever had.", t + 1500e3);
  say(cn, lin, "本周需求评审改到周四下午三点。", t);
  say(direct, lin, "Hi Ada, can you look at the report?", t + 100e3);
  say(news, ada, "Maintenance on Sunday, 22:00 to 22:10.", t);
  general.messages.at(-4).late = true;
  general.members.get(ada.id).read_seq = 880;
}

if (process.env.SEED) seed();
for (const node of nodes.slice(1)) node.server.listen(node.port, "127.0.0.1");
nodes[0].server.listen(port, "127.0.0.1", () => console.log(`${origin}/setup#${setupToken}`));

function stop(node) {
  for (const socket of node.sockets) socket.terminate();
  node.server.close();
  node.server.closeAllConnections();
}

// A file named by HOLDFAST_RESTART_FILE asks for a restart: the listener goes away for three seconds.
const restartFile = process.env.HOLDFAST_RESTART_FILE;
setInterval(() => {
  if (!restartFile || !existsSync(restartFile)) return;
  rmSync(restartFile);
  stop(nodes[0]);
  setTimeout(() => nodes[0].server.listen(port, "127.0.0.1"), 3000);
}, 100);

// The words of tests/web/failover.mjs: kill the active node, start what is dead, switch over.
const pairFile = process.env.HOLDFAST_PAIR_FILE;
const other = (node) => nodes.find((held) => held !== node);
const WISHES = {
  kill() {
    const dead = active;
    active = null;
    stop(dead);
    setTimeout(() => {
      active = other(dead);
    }, PROMOTION_MS);
  },
  start() {
    for (const node of nodes) if (!node.server.listening) node.server.listen(node.port, "127.0.0.1");
  },
  switch() {
    const left = active;
    active = other(left);
    for (const socket of left.sockets) socket.close(4010, "not_active");
  },
};
setInterval(() => {
  if (!pairFile || !existsSync(pairFile)) return;
  const wish = readFileSync(pairFile, "utf8").trim();
  if (!wish) return;
  WISHES[wish]();
  rmSync(pairFile);
}, 50);
