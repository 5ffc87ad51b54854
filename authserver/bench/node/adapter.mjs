// oidc-provider's storage in an SQLite file, as its README describes an adapter: one table, whose
// rows are found by an index each, with the journal mode and the syncs of authserver's file.
import Database from 'libsql';

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS payload (
    key TEXT PRIMARY KEY, grant_id TEXT, uid TEXT, user_code TEXT, body TEXT NOT NULL,
    consumed INTEGER, expires_at INTEGER) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS payload_grant ON payload (grant_id);
  CREATE INDEX IF NOT EXISTS payload_uid ON payload (uid);
  CREATE INDEX IF NOT EXISTS payload_user_code ON payload (user_code);
`;
const seconds = () => Math.floor(Date.now() / 1000);

export function adapterIn(file) {
  const database = new Database(file);
  database.pragma('journal_mode = WAL');
  database.pragma('synchronous = FULL');
  database.exec(SCHEMA);
  const columns = 'body, consumed, expires_at';
  const statements = {
    upsert: database.prepare('INSERT OR REPLACE INTO payload VALUES (?, ?, ?, ?, ?, NULL, ?)'),
    find: database.prepare(`SELECT ${columns} FROM payload WHERE key = ?`),
    byUid: database.prepare(`SELECT ${columns} FROM payload WHERE uid = ?`),
    byUserCode: database.prepare(`SELECT ${columns} FROM payload WHERE user_code = ?`),
    consume: database.prepare('UPDATE payload SET consumed = ? WHERE key = ?'),
    destroy: database.prepare('DELETE FROM payload WHERE key = ?'),
    revoke: database.prepare('DELETE FROM payload WHERE grant_id = ?'),
  };

  function payloadOf(row) {
    if (!row || (row.expires_at !== null && row.expires_at <= seconds())) return undefined;
    const body = JSON.parse(row.body);
    return row.consumed === null ? body : { ...body, consumed: row.consumed };
  }

  return class SqliteAdapter {
    constructor(model) {
      this.model = model;
    }

    keyOf(id) {
      return `${this.model}:${id}`;
    }

    async upsert(id, payload, expiresIn) {
      const { grantId = null, uid = null, userCode = null } = payload;
      const expiresAt = expiresIn ? seconds() + expiresIn : null;
      const body = JSON.stringify(payload);
      statements.upsert.run(this.keyOf(id), grantId, uid, userCode, body, expiresAt);
    }

    async find(id) {
      return payloadOf(statements.find.get(this.keyOf(id)));
    }

    async findByUid(uid) {
      return payloadOf(statements.byUid.get(uid));
    }

    async findByUserCode(userCode) {
      return payloadOf(statements.byUserCode.get(userCode));
    }

    async consume(id) {
      statements.consume.run(seconds(), this.keyOf(id));
    }

    async destroy(id) {
      statements.destroy.run(this.keyOf(id));
    }

    async revokeByGrantId(grantId) {
      statements.revoke.run(grantId);
    }
  };
}
