"""The tables of the journal, as scripts that each bring a file of one version to the next."""

from __future__ import annotations

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE actions (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  at TEXT NOT NULL, action TEXT NOT NULL, subject TEXT NOT NULL, reason TEXT NOT NULL,
  cause TEXT NOT NULL, revision TEXT, status TEXT, attempts INTEGER NOT NULL DEFAULT 0,
  duration_s REAL, error TEXT
) STRICT;
CREATE INDEX actions_subject ON actions (subject, id);
CREATE TABLE releases (
  stack TEXT PRIMARY KEY, digest TEXT NOT NULL, revision TEXT NOT NULL,
  inputs TEXT NOT NULL, services TEXT NOT NULL, at TEXT NOT NULL
) STRICT;
CREATE TABLE attempts (
  stack TEXT PRIMARY KEY, digest TEXT NOT NULL, count INTEGER NOT NULL,
  next_at REAL NOT NULL, permanent INTEGER NOT NULL, error TEXT NOT NULL
) STRICT;
CREATE TABLE holds (
  subject TEXT NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL,
  needs_person INTEGER NOT NULL, since TEXT NOT NULL, PRIMARY KEY (subject, reason)
) STRICT;
CREATE TABLE plaintext (path TEXT PRIMARY KEY, oid TEXT NOT NULL) STRICT;
CREATE TABLE approvals (sha TEXT PRIMARY KEY, at TEXT NOT NULL) STRICT;
CREATE TABLE helpers (id TEXT PRIMARY KEY) STRICT;
CREATE TABLE evicted (
  id TEXT PRIMARY KEY, name TEXT NOT NULL, image TEXT NOT NULL, action TEXT NOT NULL,
  reason TEXT NOT NULL, at TEXT NOT NULL, remove_at REAL, inspect TEXT NOT NULL
) STRICT;
"""
ORDERS = """
CREATE TABLE suspensions (
  stack TEXT PRIMARY KEY, until REAL, reason TEXT NOT NULL, since TEXT NOT NULL
) STRICT;
CREATE TABLE undone (id TEXT PRIMARY KEY, until REAL NOT NULL) STRICT;
ALTER TABLE evicted ADD COLUMN over INTEGER NOT NULL DEFAULT 0;
UPDATE evicted SET over = 1 WHERE remove_at IS NULL;
"""
ROLLBACKS = """
ALTER TABLE releases ADD COLUMN after TEXT NOT NULL DEFAULT '[]';
ALTER TABLE releases ADD COLUMN disturbed INTEGER NOT NULL DEFAULT 0;
CREATE TABLE rollbacks (
  stack TEXT PRIMARY KEY, digest TEXT NOT NULL, revision TEXT NOT NULL, reason TEXT NOT NULL
) STRICT;
"""
MODES = "ALTER TABLE releases ADD COLUMN modes INTEGER NOT NULL DEFAULT 0;"
CODES = """
ALTER TABLE actions ADD COLUMN detail TEXT;
ALTER TABLE evicted ADD COLUMN detail TEXT;
"""
INPUTS = """
ALTER TABLE releases RENAME COLUMN disturbed TO dirty;
ALTER TABLE releases ADD COLUMN away INTEGER NOT NULL DEFAULT 0;
UPDATE releases SET away = 1 WHERE 'away/' || stack IN (SELECT key FROM meta);
CREATE TABLE started (stack TEXT PRIMARY KEY, digest TEXT NOT NULL) STRICT;
INSERT INTO started
  SELECT substr(key, 9), json_extract(value, '$') FROM meta WHERE key GLOB 'started/*';
DELETE FROM meta WHERE key GLOB 'away/*' OR key GLOB 'started/*';
"""
ONE_SHOT = """
UPDATE releases SET services = replace(services, '"finishes": ', '"one_shot": ');
"""
APPROVALS = """
DELETE FROM approvals WHERE at <=
    (SELECT MAX(at) FROM actions WHERE reason = 'new-commit')
  AND sha <> coalesce((SELECT json_extract(value, '$.revision.sha') FROM meta
    WHERE key = 'declared'), '');
DELETE FROM meta WHERE key = 'rewrites'
"""
"""Those that were for moves before the newest one; until then they counted for ever."""
MADE = "CREATE TABLE made (stack TEXT PRIMARY KEY, own TEXT NOT NULL, before TEXT) STRICT;"
RAN = """
ALTER TABLE actions ADD COLUMN ran REAL NOT NULL DEFAULT 0;
ALTER TABLE evicted ADD COLUMN ran REAL NOT NULL DEFAULT 0;
UPDATE actions SET ran = strftime('%s', 'now');
UPDATE evicted SET ran = strftime('%s', 'now');
"""
WITHOUT_DATA = "ALTER TABLE approvals ADD COLUMN without_data INTEGER NOT NULL DEFAULT 0;"
EVENTS = """
CREATE TABLE events (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, action INTEGER NOT NULL, ended INTEGER NOT NULL
) STRICT;
"""
TOTALS = """
ALTER TABLE actions ADD COLUMN phases TEXT;
CREATE INDEX actions_phases ON actions (subject, id)
  WHERE phases IS NOT NULL AND action = 'deploy';
CREATE TABLE totals (
  action TEXT NOT NULL, reason TEXT NOT NULL, status TEXT NOT NULL,
  count INTEGER NOT NULL, seconds REAL NOT NULL, PRIMARY KEY (action, reason, status)
) STRICT;
INSERT INTO totals
  SELECT action, reason, status, COUNT(*), TOTAL(duration_s) FROM actions
  WHERE status IS NOT NULL GROUP BY action, reason, status;
"""
ACTOR = """
ALTER TABLE actions ADD COLUMN actor TEXT;
ALTER TABLE suspensions ADD COLUMN actor TEXT
"""
MIGRATIONS = (
    SCHEMA, ORDERS, ROLLBACKS, MODES, CODES, INPUTS, ONE_SHOT,
    APPROVALS, MADE, RAN, WITHOUT_DATA, EVENTS, TOTALS, ACTOR,
)  # fmt: skip
"""Each brings a file of the version before to the next; the first makes a new one."""

READABLE, READABLE_FROM = "readable-from", 7
"""Under which key a journal says which schema is the oldest whose agent understands its rows, as
far as that has their columns: the last migration that changed what is in older ones."""
