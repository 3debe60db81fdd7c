//! The tables, as the steps that made them. A step that was released is never changed; a new one goes to the end.

use std::path::Path;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::accounts;
use super::error::SqliteError;

/// `PRAGMA application_id` of our files, "pgat" in ASCII.
const APPLICATION_ID: i64 = 0x7067_6174;

/// `user_version` is the number of steps that a file has seen.
pub(super) const STEPS: &[&str] = &[
    // 1: revocations, our signing keys, the issuers' last good key sets.
    "
    CREATE TABLE revocations (
        issuer TEXT NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('token', 'subject')),
        value TEXT NOT NULL,
        revoked_at INTEGER NOT NULL,
        expires_at INTEGER,
        PRIMARY KEY (issuer, kind, value)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE signing_keys (
        key_id TEXT NOT NULL PRIMARY KEY,
        public_key BLOB NOT NULL,
        private_key BLOB,
        created_at INTEGER NOT NULL,
        retired_at INTEGER,
        verify_until INTEGER,
        CHECK ((retired_at IS NULL) = (private_key IS NOT NULL)),
        CHECK ((retired_at IS NULL) = (verify_until IS NULL))
    ) STRICT;
    -- At most one is active.
    CREATE UNIQUE INDEX signing_keys_active ON signing_keys ((retired_at IS NULL)) WHERE retired_at IS NULL;

    CREATE TABLE key_sets (
        issuer TEXT NOT NULL PRIMARY KEY,
        url TEXT NOT NULL,
        content BLOB NOT NULL,
        fetched_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    ",
    // 2: accounts, sessions, secrets; revocations of sessions, staleness; the longest token of a signing key; the version.
    "
    CREATE TABLE revocations_2 (
        issuer TEXT NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('token', 'subject', 'session', 'stale')),
        value TEXT NOT NULL,
        revoked_at INTEGER NOT NULL,
        expires_at INTEGER,
        -- Tokens of an earlier one are stale.
        revision INTEGER,
        PRIMARY KEY (issuer, kind, value),
        CHECK ((kind = 'stale') = (revision IS NOT NULL))
    ) STRICT, WITHOUT ROWID;
    INSERT INTO revocations_2 SELECT issuer, kind, value, revoked_at, expires_at, NULL FROM revocations;
    DROP TABLE revocations;
    ALTER TABLE revocations_2 RENAME TO revocations;
    CREATE INDEX revocations_expires_at ON revocations (expires_at);

    ALTER TABLE signing_keys ADD COLUMN tokens_until INTEGER;

    CREATE TABLE secrets (
        name TEXT NOT NULL PRIMARY KEY,
        value BLOB NOT NULL CHECK (length(value) = 32)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE accounts (
        id TEXT NOT NULL PRIMARY KEY,
        email TEXT NOT NULL,
        email_key TEXT NOT NULL UNIQUE,
        name TEXT,
        -- A JSON array of strings.
        roles TEXT NOT NULL,
        password_hash TEXT,
        -- What stands before its salt.
        hash_kind TEXT,
        disabled INTEGER NOT NULL CHECK (disabled IN (0, 1)),
        created_at INTEGER NOT NULL,
        password_version INTEGER NOT NULL,
        -- Counts changes of name and roles.
        revision INTEGER NOT NULL,
        CHECK ((password_hash IS NULL) = (hash_kind IS NULL))
    ) STRICT;
    CREATE INDEX accounts_hash_kind ON accounts (hash_kind) WHERE hash_kind IS NOT NULL;

    -- How many accounts have a hash of a kind: asked at every sign-in.
    CREATE TABLE hash_kinds (
        kind TEXT NOT NULL PRIMARY KEY,
        accounts INTEGER NOT NULL CHECK (accounts >= 0)
    ) STRICT, WITHOUT ROWID;
    CREATE TRIGGER accounts_added AFTER INSERT ON accounts WHEN new.hash_kind IS NOT NULL BEGIN
        INSERT INTO hash_kinds (kind, accounts) VALUES (new.hash_kind, 1)
            ON CONFLICT DO UPDATE SET accounts = accounts + 1;
    END;
    CREATE TRIGGER accounts_changed AFTER UPDATE OF hash_kind ON accounts
    WHEN new.hash_kind IS NOT old.hash_kind BEGIN
        UPDATE hash_kinds SET accounts = accounts - 1 WHERE kind = old.hash_kind;
        INSERT INTO hash_kinds (kind, accounts) SELECT new.hash_kind, 1 WHERE new.hash_kind IS NOT NULL
            ON CONFLICT DO UPDATE SET accounts = accounts + 1;
        DELETE FROM hash_kinds WHERE kind = old.hash_kind AND accounts = 0;
    END;
    CREATE TRIGGER accounts_deleted AFTER DELETE ON accounts WHEN old.hash_kind IS NOT NULL BEGIN
        UPDATE hash_kinds SET accounts = accounts - 1 WHERE kind = old.hash_kind;
        DELETE FROM hash_kinds WHERE kind = old.hash_kind AND accounts = 0;
    END;

    CREATE TABLE sessions (
        id TEXT NOT NULL PRIMARY KEY,
        account_id TEXT NOT NULL REFERENCES accounts (id),
        created_at INTEGER NOT NULL,
        seen_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        user_agent TEXT NOT NULL,
        address TEXT NOT NULL,
        -- BLAKE3 of the refresh tokens of an API client; none: a browser's.
        refresh_current BLOB CHECK (length(refresh_current) = 32),
        refresh_previous BLOB CHECK (length(refresh_previous) = 32),
        refresh_rotated_at INTEGER,
        CHECK ((refresh_current IS NULL) = (refresh_rotated_at IS NULL)),
        CHECK (refresh_current IS NOT NULL OR refresh_previous IS NULL)
    ) STRICT;
    CREATE INDEX sessions_account ON sessions (account_id);
    CREATE INDEX sessions_expires_at ON sessions (expires_at);
    -- Only a browser's may be idle for too long.
    CREATE INDEX sessions_seen_at ON sessions (seen_at) WHERE refresh_current IS NULL;

    -- Moves with what processes hold in memory, and with nothing else: whoever sees the same number reads nothing again.
    CREATE TABLE version (
        one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
        number INTEGER NOT NULL
    ) STRICT;
    INSERT INTO version VALUES (1, 0);
    CREATE TRIGGER revocations_added AFTER INSERT ON revocations BEGIN
        UPDATE version SET number = number + 1;
    END;
    CREATE TRIGGER revocations_changed AFTER UPDATE ON revocations BEGIN
        UPDATE version SET number = number + 1;
    END;
    CREATE TRIGGER revocations_deleted AFTER DELETE ON revocations BEGIN
        UPDATE version SET number = number + 1;
    END;
    CREATE TRIGGER signing_keys_added AFTER INSERT ON signing_keys BEGIN
        UPDATE version SET number = number + 1;
    END;
    -- The longest token of the active key is nobody's to hold.
    CREATE TRIGGER signing_keys_changed AFTER UPDATE ON signing_keys
    WHEN new.retired_at IS NOT old.retired_at OR new.verify_until IS NOT old.verify_until BEGIN
        UPDATE version SET number = number + 1;
    END;
    CREATE TRIGGER signing_keys_deleted AFTER DELETE ON signing_keys BEGIN
        UPDATE version SET number = number + 1;
    END;
    ",
    // 3: one-time codes.
    "
    CREATE TABLE codes (
        -- BLAKE3 of the code.
        hash BLOB NOT NULL PRIMARY KEY CHECK (length(hash) = 32),
        session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
        host TEXT NOT NULL,
        nonce BLOB NOT NULL CHECK (length(nonce) = 32),
        return_to TEXT NOT NULL,
        expires_at INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX codes_session ON codes (session_id);
    ",
    // 4: whether the address of an account is confirmed, and what it looks like.
    "
    -- Which of the accounts of before were registered was not kept. What registering cannot have made counts as confirmed:
    -- an account without a password, with a hash of another program, or with an id of another kind than a UUID of version 7.
    ALTER TABLE accounts ADD COLUMN confirmed INTEGER NOT NULL DEFAULT 0 CHECK (confirmed IN (0, 1));
    UPDATE accounts SET confirmed = 1
        WHERE hash_kind IS NOT '$argon2id$v=19$m=19456,t=2,p=1' OR id NOT GLOB '????????-????-7???-????-????????????';

    -- The skeleton of the address (UTS 39), filled in by the program.
    ALTER TABLE accounts ADD COLUMN look TEXT NOT NULL DEFAULT '';
    ALTER TABLE accounts ADD COLUMN is_ascii INTEGER NOT NULL DEFAULT 1 CHECK (is_ascii IN (0, 1));
    CREATE INDEX accounts_look ON accounts (look, is_ascii);
    ",
    // 5: revocations in the order in which they were written, so that only new ones are read; the end of a session's tokens.
    "
    CREATE TABLE revocations_5 (
        issuer TEXT NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('token', 'subject', 'session', 'stale')),
        value TEXT NOT NULL,
        revoked_at INTEGER NOT NULL,
        expires_at INTEGER,
        -- Tokens of an earlier one are stale; 0: none is any more.
        revision INTEGER,
        -- `version.revocations` after it was last written.
        sequence INTEGER NOT NULL UNIQUE,
        PRIMARY KEY (issuer, kind, value),
        CHECK ((kind = 'stale') = (revision IS NOT NULL))
    ) STRICT, WITHOUT ROWID;
    INSERT INTO revocations_5
        SELECT issuer, kind, value, revoked_at, expires_at, revision, row_number() OVER (ORDER BY revoked_at)
        FROM revocations;
    DROP TABLE revocations;
    ALTER TABLE revocations_5 RENAME TO revocations;
    CREATE INDEX revocations_expires_at ON revocations (expires_at);

    -- The latest `exp` of its tokens; none: not known.
    ALTER TABLE sessions ADD COLUMN tokens_until INTEGER;

    -- What processes hold in memory: whoever sees the same numbers reads nothing again.
    DROP TRIGGER signing_keys_added;
    DROP TRIGGER signing_keys_changed;
    DROP TRIGGER signing_keys_deleted;
    DROP TABLE version;
    CREATE TABLE version (
        one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
        -- Revocations that were written.
        revocations INTEGER NOT NULL,
        -- Revocations that were deleted before their time.
        lost INTEGER NOT NULL,
        -- Changes of the signing keys.
        signing_keys INTEGER NOT NULL
    ) STRICT;
    INSERT INTO version SELECT 1, count(*), 0, 0 FROM revocations;
    CREATE TRIGGER revocations_deleted AFTER DELETE ON revocations BEGIN
        UPDATE version SET lost = lost + 1;
    END;
    CREATE TRIGGER signing_keys_added AFTER INSERT ON signing_keys BEGIN
        UPDATE version SET signing_keys = signing_keys + 1;
    END;
    -- The longest token of the active key is nobody's to hold.
    CREATE TRIGGER signing_keys_changed AFTER UPDATE ON signing_keys
    WHEN new.retired_at IS NOT old.retired_at OR new.verify_until IS NOT old.verify_until BEGIN
        UPDATE version SET signing_keys = signing_keys + 1;
    END;
    CREATE TRIGGER signing_keys_deleted AFTER DELETE ON signing_keys BEGIN
        UPDATE version SET signing_keys = signing_keys + 1;
    END;
    ",
    // 6: the algorithm of a signing key. All keys of before are Ed25519.
    "
    ALTER TABLE signing_keys ADD COLUMN algorithm TEXT NOT NULL DEFAULT 'EdDSA'
        CHECK (algorithm IN ('ES256', 'RS256', 'EdDSA'));
    ",
    // 7: identities at providers, and the attempts to sign in there that were completed.
    "
    CREATE TABLE identities (
        -- Its name in the TOML.
        provider TEXT NOT NULL,
        subject TEXT NOT NULL,
        account_id TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
        email TEXT,
        email_verified INTEGER NOT NULL CHECK (email_verified IN (0, 1)),
        name TEXT,
        -- Those of the last sign-in, a JSON array.
        roles TEXT NOT NULL,
        updated_at INTEGER NOT NULL,
        PRIMARY KEY (provider, subject)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX identities_account ON identities (account_id);

    CREATE TABLE spent_attempts (
        -- BLAKE3 of the state parameter.
        hash BLOB NOT NULL PRIMARY KEY CHECK (length(hash) = 32),
        expires_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX spent_attempts_expires_at ON spent_attempts (expires_at);
    ",
    // 8: what providers granted for sessions.
    "
    CREATE TABLE grants (
        session_id TEXT NOT NULL PRIMARY KEY REFERENCES sessions (id) ON DELETE CASCADE,
        -- Its name in the TOML.
        provider TEXT NOT NULL,
        subject TEXT NOT NULL,
        -- Tokens, AES-256-GCM.
        sealed BLOB NOT NULL,
        -- Whether there is a refresh token among them.
        refreshes INTEGER NOT NULL CHECK (refreshes IN (0, 1)),
        read_at INTEGER NOT NULL,
        leased_until INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX grants_read_at ON grants (read_at) WHERE refreshes;
    ",
    // 9: how the user of a session was authenticated. Nothing is known of the sessions of before.
    "
    ALTER TABLE sessions ADD COLUMN auth_time INTEGER;
    ALTER TABLE sessions ADD COLUMN acr TEXT;
    -- Its name in the TOML; NULL for a password.
    ALTER TABLE sessions ADD COLUMN provider TEXT;
    ALTER TABLE sessions ADD COLUMN provider_subject TEXT;
    ALTER TABLE sessions ADD COLUMN provider_sid TEXT;
    CREATE INDEX sessions_provider_sid ON sessions (provider, provider_sid);
    CREATE INDEX sessions_provider_subject ON sessions (provider, provider_subject);
    ",
    // 10: one-time codes of clients without cookies.
    "
    CREATE TABLE client_codes (
        -- BLAKE3 of the code.
        hash BLOB NOT NULL PRIMARY KEY CHECK (length(hash) = 32),
        account_id TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
        redirect_uri TEXT NOT NULL,
        challenge TEXT NOT NULL,
        auth_time INTEGER,
        acr TEXT,
        provider TEXT,
        provider_subject TEXT,
        provider_sid TEXT,
        expires_at INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX client_codes_account ON client_codes (account_id);
    CREATE INDEX client_codes_expires_at ON client_codes (expires_at);
    ",
];

/// The index of the step after which addresses are compared anew.
const ADDRESSES: usize = 3;

/// Takes the steps that the file has not seen, all in one transaction.
pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), SqliteError> {
    let failed = |error| SqliteError::new(path, "prepare the tables", error);
    let known = i64::try_from(STEPS.len()).expect("a handful of steps");
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(failed)?;
    let (application, version, tables) = describe(&transaction).map_err(failed)?;
    let is_new = application == 0 && version == 0 && tables == 0;
    if application != APPLICATION_ID && !is_new {
        return Err(SqliteError::OtherProgram {
            path: path.to_owned(),
        });
    }
    if version > known {
        return Err(SqliteError::Newer {
            path: path.to_owned(),
            found: version,
            known,
        });
    }
    if version == known {
        return Ok(());
    }
    let seen = usize::try_from(version).map_err(|_| SqliteError::OtherProgram {
        path: path.to_owned(),
    })?;
    (|| {
        for (index, step) in STEPS.iter().enumerate().skip(seen) {
            transaction.execute_batch(step)?;
            if index == ADDRESSES {
                accounts::compare_anew(&transaction)?;
            }
        }
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", known)?;
        transaction.commit()
    })()
    .map_err(failed)
}

/// Application id, schema version, number of tables.
fn describe(transaction: &Transaction<'_>) -> rusqlite::Result<(i64, i64, i64)> {
    Ok((
        transaction.pragma_query_value(None, "application_id", |row| row.get(0))?,
        transaction.pragma_query_value(None, "user_version", |row| row.get(0))?,
        transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?,
    ))
}
