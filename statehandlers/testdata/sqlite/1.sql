-- What the first version has stored. It is never changed.
CREATE TABLE "logd_checkpoints" (
  namespace TEXT NOT NULL,
  topic TEXT NOT NULL,
  consumer TEXT NOT NULL,
  next_offset TEXT,
  next_delta TEXT,
  body TEXT,
  body_crc INTEGER,
  epoch TEXT NOT NULL,
  nonce TEXT NOT NULL,
  owner TEXT,
  owner_id TEXT,
  lease_until INTEGER,
  PRIMARY KEY (namespace, topic, consumer)
) STRICT, WITHOUT ROWID;
INSERT INTO logd_checkpoints VALUES ('default', 'orders', 'billing', '9007199254740993', '12', '{"logd-checkpoint":1,"next":"9007199254740993.12","anchor":"0 2499380544","done":["9007199254740995.0 9007199254740996.7"],"head_attempts":1,"user":"aGk=","written_at":1764000000000}', 2745013360, '3', '0123456789abcdef0123456789abcdef', 'host:1', '00000000000000000000000000000007', 1764000030000);
INSERT INTO logd_checkpoints VALUES ('default', 'orders', 'audit', '18446744073709551615', '18446744073709551615', '{"logd-checkpoint":1,"next":"18446744073709551615.18446744073709551615"}', 591524248, '0', '00000000000000000000000000000000', NULL, NULL, NULL);
INSERT INTO logd_checkpoints VALUES ('default', 'orders', 'claimed', NULL, NULL, NULL, NULL, '1', '00000000000000000000000000000009', NULL, NULL, NULL);
